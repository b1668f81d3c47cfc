"""The upscaler and the refiners of a recipe: every option, its range, its default, its meaning."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.method_options import Dtype, MethodOptions, Pool, Section, WeightsPin
from stages.recipe.diffusers_options import ROREM_PROMPT, DiffusersOptions, SdxlOptions

#: How ComfyUI spaces the noise levels of a sampling.
Scheduler = Literal["simple", "normal"]


class UpscaleOptions(Section):
    """How a crop is resized to the refiner's size."""

    method: Literal["lanczos", "model"] = "lanczos"
    """`model`: a super-resolution network, then Lanczos to the exact size."""
    weights: str = ""
    """The network: a model's name, a path or an s3:// URI; any that spandrel supports."""
    weights_pin: WeightsPin = ""
    """As in lama."""
    tile_px: int = Field(512, ge=64, le=4096)
    """Larger crops are enlarged in overlapping tiles of this side."""
    overlap_px: int = Field(32, ge=0, le=512)
    """Overlap of the tiles."""
    dtype: Dtype = "auto"
    """auto: 16 bits if the network supports it and it is fast on the device."""


class RefinementOptions(DiffusersOptions, MethodOptions):
    """Options of all diffusion refiners; a subclass overrides the defaults that differ.

    The module ``loader`` defines ``load(folder, options)`` and ``load_encoder(folder, options)``:
    see :mod:`stages.models.refiners`.
    """

    pool: ClassVar[Pool] = "large_gpu"

    when: Literal["always", "auto", "never"] = "always"
    """auto: refine only fills that lack more fine detail than `auto_detail`."""
    auto_detail: float = Field(1.5, ge=0, le=255)
    """With `auto`: accepted lack of fine detail compared with the surrounding ring, in levels of
    255."""
    size_px: int = Field(1024, ge=64, le=2048)
    """Longer side of the crop in the model; both sides become multiples of 16."""
    denoise: float = Field(0.8, gt=0, le=1)
    """As ComfyUI defines it: of int(steps / denoise) steps the last `steps` are run. At 1, objects
    tend to come back."""
    steps: int = Field(ge=1, le=200)
    prompt: str = ""
    """What to paint; a manifest's column `prompt` takes precedence."""

    @property
    def needs_original(self) -> bool:
        """Whether the model also sees the photo's own crop, with the object in it."""
        return False


class FlowOptions(RefinementOptions):
    """Options of the flow-matching refiners."""

    guidance: float
    scheduler: Scheduler = "simple"
    """Spacing of the noise levels, by ComfyUI's names. Its templates for FLUX-Fill use `normal`,
    which spends the last step on a level of 0.001."""
    shift: float = Field(ge=0, le=10)
    """Shift of the noise schedule (mu), the same for every size."""
    compile: Literal["auto"] | bool = "auto"
    """Compile the repeated blocks for square crops of `size_px`: starts a minute or two later, and
    is faster afterwards. Crops of other shapes run uncompiled. auto: on a GPU where it works."""
    fp8: bool = False
    """Linear layers in 8-bit floating point (torchao; needs a GPU of compute capability 8.9, and
    bfloat16)."""
    attention: str = ""
    """An attention backend of diffusers, e.g. `flash` or `_flash_3_hub`; empty: the default."""

    @property
    def loads_to_device(self) -> bool:
        """See the base class."""
        return super().loads_to_device and not self.fp8


class FluxFillOptions(FlowOptions):
    """FLUX.1-Fill-dev: repairs texture where the removal left it soft."""

    loader: ClassVar[str] = "stages.models.refiners.flux_fill"

    method: Literal["flux-fill"] = "flux-fill"
    weights: str = "flux1-fill-dev"
    steps: int = Field(20, ge=1, le=200)
    guidance: float = Field(30.0, ge=0, le=100)
    shift: float = Field(1.15, ge=0, le=10)
    noise_mask: bool = False
    """Reset the known area to the original after every step, as ComfyUI's noise mask does."""


class Flux2KleinOptions(FlowOptions):
    """FLUX.2-klein-4B: smaller, and under a licence that allows commercial use."""

    loader: ClassVar[str] = "stages.models.refiners.flux2_klein"

    method: Literal["flux2-klein"] = "flux2-klein"
    weights: str = "flux2-klein-4b"
    reference: Literal["fill", "photo", "none"] = "fill"
    """The reference picture that the model sees in each step: the crop with the removal's fill, the
    photo's own crop with the object, or none, which takes half the time. Without [remove], `fill`
    is the photo's own crop, too."""
    decoder: str = ""
    """A VAE of FLUX.2 to use instead of the model's own, such as `flux2-small-decoder`, which
    decodes faster: a model's name, or the folder of a diffusers model. Empty: the model's own."""
    decoder_pin: WeightsPin = ""
    """As `weights_pin`."""
    denoise: float = Field(0.8, gt=0, le=1)
    """As for all refiners. 4 steps start at a noise level of 1 with over 0.8, at 0.968 with 0.8, at
    0.938 with 0.66, at 0.91 with 0.57, at 0.883 with 0.5; the values between them do not differ.
    3 steps with 0.75 are the last 3 of the 4 with 1."""
    steps: int = Field(8, ge=1, le=200)
    """The published weights are distilled for 4."""
    guidance: float = Field(1.0, ge=1, le=1)
    """1: the weights are distilled, without guidance."""
    shift: float = Field(2.02, ge=0, le=10)
    """ComfyUI's value for FLUX.2. The authors' formula gives 2.29 for 1024 px and 4 steps."""
    prompt: str = "clean background, nothing added"

    @property
    def needs_original(self) -> bool:
        """See the base class."""
        return self.reference == "photo"

    @property
    def cost_name(self) -> str:
        """See the base class."""
        return self.method + (".no-reference" if self.reference == "none" else "")


class ZImageOptions(FlowOptions):
    """Z-Image-Turbo: under a licence that allows commercial use."""

    loader: ClassVar[str] = "stages.models.refiners.z_image"

    method: Literal["z-image"] = "z-image"
    weights: str = "z-image-turbo"
    steps: int = Field(8, ge=1, le=200)
    """The published weights are distilled for 8."""
    guidance: float = Field(0.0, ge=0, le=0)
    """0: the weights are distilled, without guidance."""
    shift: float = Field(1.0986, ge=0, le=10)
    """The logarithm of the published 3."""
    prompt: str = "clean background, nothing added"


class RoremRefinementOptions(SdxlOptions, RefinementOptions):
    """RORem, which starts from the removal's fill."""

    loader: ClassVar[str] = "stages.models.refiners.rorem"

    method: Literal["rorem"] = "rorem"
    weights: str = "rorem"
    steps: int = Field(20, ge=1, le=200)
    prompt: str = ROREM_PROMPT

    @property
    def scheduled_and_executed_steps(self) -> tuple[int, int]:
        """See the base class."""
        return int(self.steps / self.denoise), self.steps


#: The refinement methods; add new ones here.
AnyRefinementOptions = Annotated[
    FluxFillOptions | Flux2KleinOptions | ZImageOptions | RoremRefinementOptions,
    Field(discriminator="method"),
]
