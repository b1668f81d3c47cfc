"""The removal methods of a recipe: every option, its range, its default, its meaning."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from stages.method_options import NOT_HASHED, Dtype, FolderPart, Pool, RemovalOptions, WeightsPin
from stages.recipe.diffusers_options import ROREM_PROMPT, SdxlOptions


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
    pull` prints it, or the Hub's `commit:HEX`. Empty: the content when a run starts."""
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


class SdxlWindowOptions(WindowOptions):
    """Options of an SDXL network that was trained to remove objects."""

    working_multiple_px: ClassVar[int] = 64

    min_context_px: int = Field(256, ge=16, le=4096)
    """With `region`: minimum context on each side."""
    max_side_px: int = Field(1024, ge=256, le=8192)
    """Windows with a longer side are filled at this size, rounded up to a multiple of 64. OSOR and
    the first weights of RORem were trained on 512 px, to which their authors scale photos;
    RORem-mixed was trained on up to 1024."""
    dtype: Dtype = "auto"
    """auto: bfloat16 where it is fast. With float16, the VAE runs in float32."""


class OsorOptions(SdxlWindowOptions):
    """OSOR-SDXL: removes an object and what it casts in one step (Zhou et al. 2026)."""

    loader: ClassVar[str] = "stages.models.osor"
    returns_alpha: ClassVar[bool] = True

    method: Literal["osor"] = "osor"
    weights: str = "osor-sdxl"
    """The trained part: adapters of the UNet, and its last layer. As in lama."""
    weights_pin: WeightsPin = ""
    """As in lama."""
    base_weights: str = "sdxl-inpainting"
    """The model that it was trained on: the folder of a diffusers pipeline."""
    base_weights_pin: WeightsPin = ""
    """As `weights_pin`."""
    prompt_weights: str = "osor-sdxl-prompt"
    """A safetensors file with the encoded text that it was trained with."""
    prompt_weights_pin: WeightsPin = ""
    """As `weights_pin`."""
    batch_size: Annotated[int, NOT_HASHED] = Field(4, ge=1, le=64)
    """As in lama."""


class RoremOptions(SdxlOptions, SdxlWindowOptions):
    """RORem: an SDXL inpainting model fine-tuned to remove objects (Li et al. 2025)."""

    loader: ClassVar[str] = "stages.models.rorem"
    part: ClassVar[FolderPart] = ""  # it encodes its prompt itself, once

    method: Literal["rorem"] = "rorem"
    weights: str = "rorem"
    steps: int = Field(20, ge=1, le=200)
    """Number of scheduled steps. The authors run 50; 15 to 30 work well, too."""
    strength: float = Field(0.99, gt=0, lt=1)
    """As diffusers defines it: the last int(steps x strength) of the steps are run. The authors
    stay below 1."""
    prompt: str = ROREM_PROMPT
    """The same for all windows. It was trained with the empty one; the authors recommend this."""
    dtype: Dtype = "auto"
    """As in osor."""

    @property
    def scheduled_and_executed_steps(self) -> tuple[int, int]:
        """See the base class."""
        return self.steps, int(self.steps * self.strength)


#: The removal methods; add new ones here.
AnyRemovalOptions = Annotated[
    TeleaOptions
    | NavierStokesOptions
    | PatchMatchOptions
    | LamaOptions
    | OsorOptions
    | RoremOptions,
    Field(discriminator="method"),
]
