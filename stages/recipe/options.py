"""The sections of a recipe: every option, its range, its default, and what it means.

Lengths are in pixels of the *original* photo unless a name says otherwise.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from manifests.storage import SCHEMES, Scheme
from stages.method_options import (
    NOT_HASHED,
    Dtype,
    MethodOptions,
    Part,
    Pool,
    RemovalOptions,
    Section,
    WeightsPin,
)

#: Where a mask smaller or larger than the photo lies.
Anchor = Literal[
    "",
    "top-left",
    "top",
    "top-right",
    "left",
    "centre",
    "right",
    "bottom-left",
    "bottom",
    "bottom-right",
]


class MaskOptions(Section):
    """How masks and shapes become the region to fill, and its soft edge.

    ``channel``, ``polarity``, ``values``, ``threshold``, ``scale_to_photo`` and ``anchor`` apply to
    mask files only; the others apply to shapes too.
    """

    channel: Literal["luminance", "alpha"] = "luminance"
    """The channel of a mask file that marks: brightness or opacity."""
    polarity: Literal["light", "dark"] = "light"
    """light: bright or opaque samples are removed; dark: dark or transparent samples are."""
    values: Literal["auto", "levels", "labels"] = "auto"
    """Meaning of samples. levels: those at or above `threshold` are removed. labels: all that are
    not black (white if dark), or not transparent, are removed. auto: levels, except that in a
    lossless mask of black and one other value, the other is removed. Ambiguous masks, for example
    with several labels, are rejected."""
    threshold: int = Field(128, ge=1, le=255)
    """Samples at or above this value (0 to 255; counted from white if dark) are removed."""
    scale_to_photo: bool = False
    """Accept a mask of another size and the same aspect, and scale it."""
    anchor: Anchor = ""
    """Place a mask of another size at this corner, edge or centre of the displayed photo; what lies
    outside is cut off. Empty: a mask has the photo's size. Never applies to masks that have it."""
    anchor_width: float = Field(0.0, ge=0, le=1)
    """Scale an anchored mask to this share of the photo's width; 0: its own size in px."""
    fill_holes: bool = False
    """Also remove the inside of outlines. Off, since a mask may be a frame around the product."""
    dilate_px: int = Field(3, ge=0, le=256)
    """Grow the region by this much, so that no soft edge of the object remains."""
    dilate_share: float = Field(0.0, ge=0, le=0.1)
    """The same as a share of the photo's longer side; the larger of the two applies."""
    feather_px: int = Field(3, ge=0, le=256)
    """Width of the soft edge outside the dilated region: from this + 1 px on, nothing changes."""
    feather_share: float = Field(0.0, ge=0, le=0.1)
    """The same as a share of the photo's longer side; the larger of the two applies."""
    effects: Literal["off", "alpha"] = "off"
    """Whether shadows and reflections that the object casts beyond the mask are removed, too. off:
    nothing outside the mask and its soft edge changes. alpha: where the removal model's own alpha
    shows that it changed something. The part beyond the mask is recorded in the lineage."""
    effects_reach: float = Field(1.0, gt=0, le=10)
    """Maximum distance from the dilated region, relative to the longer side of the region that is
    filled together."""
    effects_area: float = Field(2.0, gt=0, le=100)
    """Maximum area beyond the mask, relative to the area of the dilated region. What would be
    larger is probably wrong: nothing beyond the mask is then changed, and the photo is flagged."""

    @model_validator(mode="after")
    def _width_has_an_anchor(self) -> Self:
        if self.anchor_width and not self.anchor:
            raise ValueError("anchor_width needs an anchor")
        return self

    def dilate_for(self, width: int, height: int) -> int:
        """Dilation in px in a photo of this size."""
        return max(self.dilate_px, round(self.dilate_share * max(width, height)))

    def feather_for(self, width: int, height: int) -> int:
        """Width of the soft edge in px in a photo of this size."""
        return max(self.feather_px, round(self.feather_share * max(width, height)))


class ShapeOptions(Section):
    """How the boxes and polygons of a manifest are read; run lengths are always in px."""

    units: Literal["px", "share", "percent"] = "px"
    """px of the displayed photo, or 0 to 1 (share) or 0 to 100 (percent) of its width and height.
    """


class CropOptions(Section):
    """The surroundings of the region that a fill sees."""

    context: float = Field(2.0, ge=1.0, le=20.0)
    """Side of the crop over side of the masked part, on each axis."""
    min_context_px: int = Field(64, ge=1, le=4096)
    """Minimum context on each side; always more than the feather."""
    aspect: float = Field(0.0, ge=0.0, le=10.0)
    """Width over height of the crop, 0.1 to 10, reached by growing one axis as far as the photo
    allows; 0: no fixed ratio."""
    merge_px: int = Field(48, ge=0, le=4096)
    """Masked parts closer than this are filled together."""
    max_patches: int = Field(32, ge=1, le=256)
    """Maximum number of patches; with more, the merge distance is increased."""

    @model_validator(mode="after")
    def _aspect_is_in_range(self) -> Self:
        if 0 < self.aspect < 0.1:
            raise ValueError(f"aspect = {self.aspect} must be 0, or 0.1 to 10")
        return self


class ResizeOptions(Section):
    """The scale at which the fill works."""

    max_side_px: int = Field(0, ge=0, le=8192)
    """Crops with a longer side are filled at this size and scaled back; 0: never scale."""


class ClassicalOptions(RemovalOptions):
    """Options of the methods without weights."""

    loader: ClassVar[str] = "stages.models.classical"


class TeleaOptions(ClassicalOptions):
    """Fast marching inpainting: smooth fills, milliseconds."""

    method: Literal["telea"] = "telea"
    radius_px: float = Field(5.0, ge=1, le=64)
    """Neighbourhood each pixel is estimated from, in pixels of the working size."""


class NavierStokesOptions(ClassicalOptions):
    """Fluid-dynamics inpainting: continues lines of equal brightness."""

    method: Literal["navier-stokes"] = "navier-stokes"
    radius_px: float = Field(5.0, ge=1, le=64)
    """Radius around each pixel that it is estimated from, in pixels of the working size."""


class PatchMatchOptions(ClassicalOptions):
    """Copies texture from the surroundings."""

    method: Literal["patchmatch"] = "patchmatch"
    patch_radius_px: int = Field(3, ge=1, le=15)
    """Half the side of the compared squares, in pixels of the working size."""


#: How ComfyUI spaces the noise levels of a sampling.
Scheduler = Literal["simple", "normal"]


class WindowOptions(RemovalOptions):
    """Options of a trained network's input."""

    pool: ClassVar[Pool] = "small_gpu"
    is_generative: ClassVar[bool] = True
    window_multiple_px: ClassVar[int] = 64

    window: Literal["region", "photo"] = "region"
    """The input: the surroundings of a patch, or the whole photo as in the published method (except
    for up to 7 px along one edge, so that nothing is padded)."""
    context: float = Field(3.0, ge=1.0, le=20.0)
    """With `region`: side of the window over side of the masked part, on each axis."""
    min_context_px: int = Field(128, ge=16, le=4096)
    """With `region`: minimum context on each side."""
    max_side_px: int = Field(ge=256, le=8192)
    """Windows with a longer side are filled at this size, rounded up to a multiple of 64."""

    def context_for(self, width: int, height: int) -> tuple[float, int]:
        """See the base class."""
        whole_photo = self.window == "photo"
        return self.context, max(width, height) if whole_photo else self.min_context_px

    @property
    def own_max_side_px(self) -> int:
        """See the base class."""
        return -(-self.max_side_px // self.window_multiple_px) * self.window_multiple_px


class LamaOptions(WindowOptions):
    """LaMa: reliable removal, slightly soft (Suvorov et al. 2022)."""

    loader: ClassVar[str] = "stages.models.lama"
    working_multiple_px: ClassVar[int] = 8  # the network halves a picture three times

    method: Literal["lama"] = "lama"
    engine: Literal["built-in", "simple-lama"] = "built-in"
    """The implementation. `simple-lama`: the package simple-lama-inpainting, as a reference: one
    window at a time, in float32, and only from the published TorchScript file."""
    weights: str = "big-lama"
    """A model's name (`catalog-cleanup models list`), a path, or an s3:// URI. The environment
    variable LAMA_MODEL, a path, takes precedence over the default name."""
    weights_pin: WeightsPin = ""
    """Required content of `weights`: `sha256:HEX` of a file or folder as `catalog-cleanup models
    pull` prints it, or a hub's `commit:HEX`. Empty: the content when a run starts."""
    max_side_px: int = Field(2048, ge=256, le=8192)
    """Windows with a longer side are filled at this size, rounded up to a multiple of 64. LaMa was
    trained on 256 px, continues texture well up to about 2,000 px, and degrades beyond."""
    dtype: Dtype = "auto"
    """Number format of convolutions; the Fourier transform stays float32. auto: bfloat16 where it
    is fast."""
    compile: bool = False
    """Compile the network (torch.compile): slower to start, faster afterwards."""
    batch_size: Annotated[int, NOT_HASHED] = Field(8, ge=1, le=256)
    """Maximum number of windows filled at once; halved when memory runs out."""

    @model_validator(mode="after")
    def _engine_supports_options(self) -> Self:
        plain = self.dtype in ("auto", "float32") and not self.compile
        if self.engine == "simple-lama" and not plain:
            raise ValueError("engine = simple-lama runs in float32, and is not compiled")
        return self


class OsorOptions(WindowOptions):
    """OSOR-SDXL: removes an object and what it casts in one step (Zhou et al. 2026)."""

    loader: ClassVar[str] = "stages.models.osor"
    has_alpha: ClassVar[bool] = True
    working_multiple_px: ClassVar[int] = 64

    method: Literal["osor"] = "osor"
    weights: str = "osor-sdxl"
    """The trained part: adapters of the UNet, and its last layer. As in lama."""
    weights_pin: WeightsPin = ""
    """As in lama."""
    base: str = "sdxl-inpainting"
    """The model that it was trained on: the folder of a diffusers pipeline."""
    base_pin: WeightsPin = ""
    """As `weights_pin`."""
    prompt: str = "osor-sdxl-prompt"
    """A safetensors file with the encoded text that it was trained with."""
    prompt_pin: WeightsPin = ""
    """As `weights_pin`."""
    min_context_px: int = Field(256, ge=16, le=4096)
    """With `region`: minimum context on each side."""
    max_side_px: int = Field(1024, ge=256, le=8192)
    """Windows with a longer side are filled at this size, rounded up to a multiple of 64. The
    published setting scales the shorter side to 512; it was trained on 512 px."""
    dtype: Dtype = "auto"
    """auto: bfloat16 where it is fast."""
    batch_size: Annotated[int, NOT_HASHED] = Field(4, ge=1, le=64)
    """As in lama."""


class PipelineOptions(Section):
    """Options of what runs a pipeline of diffusers."""

    weights: str
    """A model's name, or the folder of a diffusers pipeline: a path or an s3:// URI."""
    weights_pin: WeightsPin = ""
    """As in lama."""
    lora: tuple[str, ...] = ()
    """Adapters to merge into the weights, e.g. a step-distilled one: `.safetensors` files by path
    or URI, in the formats that diffusers reads. Their licences are yours to check."""
    lora_scales: tuple[float, ...] = ()
    """Strength of each adapter; empty: 1."""
    lora_pin: tuple[WeightsPin, ...] = ()
    """Required content of each adapter, as `weights_pin`."""
    dtype: Dtype = "bfloat16"
    offload: Annotated[bool, NOT_HASHED] = False
    """Keep only the running part of the model on the GPU: for smaller GPUs, slower."""
    batch_size: Annotated[int, NOT_HASHED] = Field(4, ge=1, le=64)
    """Maximum number of pictures processed at once; halved when memory runs out."""

    @property
    def fits_device(self) -> bool:
        """Whether the device presumably holds all of the model in the weights' precision."""
        return not self.offload

    @model_validator(mode="after")
    def _adapters_match(self) -> Self:
        for name in ("lora_scales", "lora_pin"):
            if len(getattr(self, name)) not in (0, len(self.lora)):
                raise ValueError(f"{name} needs one value for each of lora, or none")
        return self


#: How many steps a sampler can plan. LCM's are a subset of the 50 that it is distilled for.
MAX_PLANNED = {"euler": 1000, "lcm": 50}

#: "We also find by adding these prompt, the model can work even better", say RORem's authors.
_ROREM_PROMPT = (
    "4K, high quality, masterpiece, Highly detailed, Sharp focus, Professional, photorealistic, "
    "realistic"
)


class SdxlOptions(PipelineOptions):
    """Options of an SDXL inpainting pipeline: remover and refiner."""

    sampler: Literal["euler", "lcm"] = "euler"
    """lcm: for an adapter, named in `lora`, that is distilled for 4 steps (latent consistency)."""

    @property
    def planned_and_run(self) -> tuple[int, int]:
        """The number of planned steps, and how many of them, the last ones, are run."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _sampler_plans_them(self) -> Self:
        planned, run = self.planned_and_run
        limit = MAX_PLANNED[self.sampler]
        if not 1 <= run <= planned <= limit:
            problem = f"{run} of {planned} steps would run; sampler = {self.sampler} plans"
            raise ValueError(f"{problem} 1 to {limit}, and 1 must run")
        return self


class RoremOptions(SdxlOptions, WindowOptions):
    """RORem: an SDXL inpainting model fine-tuned to remove objects (Li et al. 2025)."""

    loader: ClassVar[str] = "stages.models.rorem"
    part: ClassVar[Part] = ""  # it encodes its prompt itself, once
    working_multiple_px: ClassVar[int] = 64

    method: Literal["rorem"] = "rorem"
    weights: str = "rorem"
    min_context_px: int = Field(256, ge=16, le=4096)
    """With `region`: minimum context on each side."""
    max_side_px: int = Field(1024, ge=256, le=8192)
    """Windows with a longer side are filled at this size, rounded up to a multiple of 64. The
    authors scale photos to 512 x 512, which the first weights were trained on; those called
    RORem-mixed were trained on up to 1024."""
    steps: int = Field(20, ge=1, le=200)
    """Number of planned steps. The authors run 50; 15 to 30 work well, too."""
    strength: float = Field(0.99, gt=0, lt=1)
    """As diffusers defines it: the last int(steps x strength) of the steps are run. The authors
    stay below 1."""
    prompt: str = _ROREM_PROMPT
    """The same for all windows. It was trained with the empty one; the authors recommend this."""
    dtype: Dtype = "auto"
    """auto: bfloat16 where it is fast. With float16, the VAE runs in float32."""

    @property
    def planned_and_run(self) -> tuple[int, int]:
        """See the base class."""
        return self.steps, int(self.steps * self.strength)


#: The removal methods; add new ones here.
RemoveOptions = Annotated[
    TeleaOptions
    | NavierStokesOptions
    | PatchMatchOptions
    | LamaOptions
    | OsorOptions
    | RoremOptions,
    Field(discriminator="method"),
]


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


class DiffusionOptions(PipelineOptions, MethodOptions):
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
    def needs_photo(self) -> bool:
        """Whether the model also sees the photo's own crop, with the object in it."""
        return False


class FlowOptions(DiffusionOptions):
    """Options of the refiners that match flows with a transformer."""

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
    def fits_device(self) -> bool:
        """See the base class."""
        return super().fits_device and not self.fp8


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
    guidance: float = Field(1.0, ge=1, le=100)
    """Over 1 only for weights that are not distilled (klein-base); takes twice as long."""
    shift: float = Field(2.02, ge=0, le=10)
    """ComfyUI's value for FLUX.2. The authors' formula gives 2.29 for 1024 px and 4 steps."""
    prompt: str = "clean background, nothing added"

    @property
    def needs_photo(self) -> bool:
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


class RoremRefineOptions(SdxlOptions, DiffusionOptions):
    """RORem, which starts from the removal's fill."""

    loader: ClassVar[str] = "stages.models.refiners.rorem"

    method: Literal["rorem"] = "rorem"
    weights: str = "rorem"
    steps: int = Field(20, ge=1, le=200)
    prompt: str = _ROREM_PROMPT

    @property
    def planned_and_run(self) -> tuple[int, int]:
        """See the base class."""
        return int(self.steps / self.denoise), self.steps


#: The refinement methods; add new ones here.
RefineOptions = Annotated[
    FluxFillOptions | Flux2KleinOptions | ZImageOptions | RoremRefineOptions,
    Field(discriminator="method"),
]


class JudgeOptions(Section):
    """Checks whether a refiner painted an object back into the hole, and defines the fallback."""

    threshold: float = Field(0.5, ge=0, le=1)
    """A score, 0 to 1, over this means that an object came back. 0.5 is calibrated
    (`python -m tests.bench.judge`), 1 never flags."""
    attempts: int = Field(2, ge=1, le=16)
    """Maximum number of seeds tried, one after another, until a result passes."""
    fallback: Literal["remove", "denoise", "keep"] = "remove"
    """If none passes, use: the removal's fill; the refiner at `fallback_denoise`, or the removal's
    fill if that does not pass either; or the try with the lowest score. The photo is flagged in
    each case."""
    fallback_denoise: float = Field(0.5, gt=0, le=1)
    """As `refine.denoise`, but lower: closer to the removal."""
    bad_output: Literal["fail", "remove"] = "fail"
    """If the output of every try is not a number, or black: fail the row, or use the removal's fill
    and flag it."""
    text: bool = False
    """Also read each result: text in the hole that the removal's fill does not show has come back.
    Needs the extra `text`."""


class OutputOptions(Section):
    """How the result is stored."""

    format: Literal["source", "jpeg", "png", "webp", "tiff", "avif"] = "source"
    """The photo's own format, or one for all photos, encoded from the samples."""
    quality: int = Field(0, ge=0, le=100)
    """Quality of lossy files encoded from samples, 1 to 100; 0: 90, finer than most source files.
    JPEGs that stay JPEGs keep their own tables regardless.
    """
    fidelity: Literal["any", "exact"] = "any"
    """exact: reject a result that must be re-encoded outside the mask too: lossy WebP, AVIF and
    HEIC, JPEGs whose blocks cannot be kept, conversions that lose samples."""
    keep_steps: Annotated[bool, NOT_HASHED] = False
    """With a refiner: store each crop after the removal and after the refiner under ``steps/``, for
    `catalog-cleanup report`. Rows that are already done are not redone for this."""


class MetadataOptions(Section):
    """Handling of file content that shows or certifies the old picture."""

    stale_preview: Literal["rebuild", "drop", "refuse"] = "rebuild"
    """EXIF's JPEG thumbnail is rebuilt or dropped, or the row is rejected. Other
    content that shows or certifies the old picture (other previews, a TIFF's smaller copies, gain
    maps, depth, motion photo videos, C2PA signatures) is dropped, or rejected too."""
    mark_edit: bool = False
    """Record in the XMP that software edited the picture, and whether a
    generative model did (IPTC digital source type)."""


class Limits(Section):
    """Limits beyond which a row is rejected."""

    max_megapixels: float = Field(100.0, gt=0)
    """A photo or mask with more pixels is rejected before it is decoded."""
    max_mask_share: float = Field(0.8, gt=0, le=1)
    """A mask that covers more of its photo is rejected: its polarity is probably wrong."""
    damage: Literal["refuse", "repair"] = "refuse"
    """Damage that affects no pixel (a JPEG without its end marker, an ancillary PNG chunk with a
    wrong checksum): the photo or mask is rejected, or repaired with a note in `fidelity_note`."""
    min_mask_px: int = Field(16, ge=1)
    """A marked region with fewer px, before dilation, is rejected: probably a stray pixel, or
    shapes in other units. In photos of less than 1,000 times this many px, the limit is a
    thousandth of the photo."""
    max_seconds: float = Field(900.0, gt=0)
    """A photo that takes longer, not counting the loading of models, is aborted as hanging."""
    max_memory_mib: int = Field(4096, ge=64)
    """Memory that an actor without models may use for a photo, beyond its idle use."""
    schemes: tuple[Scheme, ...] = Field(SCHEMES, min_length=1)
    """Allowed storage of photos and masks; ``file`` is the disk, by path or URI. With ``["s3"]`` an
    untrusted manifest cannot read the nodes' own files. HTTP is never allowed."""
