"""The sections of a recipe: every option, its range, its default, and what it means.

Lengths are in pixels of the *original* photo unless a name says otherwise.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from manifests.storage import SCHEMES, Scheme
from stages.traits import (
    NEUTRAL,
    Dtype,
    MethodOptions,
    Pool,
    RemovalOptions,
    Section,
    WeightsPin,
)


class MaskOptions(Section):
    """How masks and shapes become the region to paint anew, and its soft edge.

    ``channel``, ``polarity``, ``values``, ``threshold`` and ``scale_to_photo`` are about mask files
    alone; the others are about shapes, too.
    """

    channel: Literal["luminance", "alpha"] = "luminance"
    """What of a mask file marks: how bright it is, or how opaque."""
    polarity: Literal["light", "dark"] = "light"
    """Light: what is bright, or opaque, is removed; dark: what is dark, or transparent."""
    values: Literal["auto", "levels", "labels"] = "auto"
    """What samples are. Levels: those at or above `threshold` are removed. Labels: all that is not
    black (white if dark), or not transparent, is removed. Auto: levels, but of a lossless mask of
    two values, one of them black, the other is removed; what leaves part of a mask open, such as
    several labels, is refused."""
    threshold: int = Field(128, ge=1, le=255)
    """Samples at or above this value (0 to 255; counted from white if dark) are removed."""
    scale_to_photo: bool = False
    """Accept a mask of another size and the same aspect, and scale it."""
    fill_holes: bool = False
    """Also remove what an outline encloses. Off, since a mask may be a frame around the product."""
    dilate_px: int = Field(3, ge=0, le=256)
    """Grow the region by this much, so that no soft edge of the object is left."""
    dilate_share: float = Field(0.0, ge=0, le=0.1)
    """The same as a share of the photo's longer side; the larger of the two applies."""
    feather_px: int = Field(3, ge=0, le=256)
    """Width of the soft edge, outside the grown region: from this + 1 px on, nothing changes."""
    feather_share: float = Field(0.0, ge=0, le=0.1)
    """The same as a share of the photo's longer side; the larger of the two applies."""

    def dilate_for(self, width: int, height: int) -> int:
        """By how many px the region grows in a photo of this size."""
        return max(self.dilate_px, round(self.dilate_share * max(width, height)))

    def feather_for(self, width: int, height: int) -> int:
        """How many px wide the soft edge is in a photo of this size."""
        return max(self.feather_px, round(self.feather_share * max(width, height)))


class ShapeOptions(Section):
    """How the boxes and polygons of a manifest are read; run lengths are always in px."""

    units: Literal["px", "share", "percent"] = "px"
    """Of their numbers: px of the displayed photo, or 0 to 1 or 0 to 100 of its width and height.
    """


class CropOptions(Section):
    """What surrounds the region when it is filled."""

    context: float = Field(2.0, ge=1.0, le=20.0)
    """Side of the crop over side of the masked part, on each axis."""
    min_context_px: int = Field(64, ge=1, le=4096)
    """At least this much of the photo is seen on each side, and always more than the feather."""
    aspect: float = Field(0.0, ge=0.0, le=10.0)
    """Width over height of the crop, 0.1 to 10, reached by growing one axis as far as the photo
    allows; 0: as it comes."""
    merge_px: int = Field(48, ge=0, le=4096)
    """Masked parts nearer than this are filled together."""
    max_patches: int = Field(32, ge=1, le=256)
    """With more parts than this, ever farther ones are merged."""

    @model_validator(mode="after")
    def _aspect_is_sane(self) -> Self:
        if 0 < self.aspect < 0.1:
            raise ValueError(f"aspect = {self.aspect} must be 0, or 0.1 to 10")
        return self


class ResizeOptions(Section):
    """The scale at which the fill works."""

    max_side_px: int = Field(0, ge=0, le=8192)
    """Crops with a longer side are filled at this size and scaled back; 0: never scale."""


class ClassicalOptions(RemovalOptions):
    """Of the methods without weights."""

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
    """Neighbourhood each pixel is estimated from, in pixels of the working size."""


class PatchMatchOptions(ClassicalOptions):
    """Texture copied from the surroundings."""

    method: Literal["patchmatch"] = "patchmatch"
    patch_radius_px: int = Field(3, ge=1, le=15)
    """Half the side of the compared squares, in pixels of the working size."""


#: Whether a refiner works on a patch: on each, where its surroundings have texture, or not at all.
When = Literal["always", "auto", "never"]

#: How ComfyUI spaces the noise levels of a sampling.
Scheduler = Literal["simple", "normal"]


class LamaOptions(RemovalOptions):
    """LaMa: removes surely, a little soft (Suvorov et al. 2022)."""

    pool: ClassVar[Pool] = "small_gpu"
    loader: ClassVar[str] = "stages.models.lama"
    is_generative: ClassVar[bool] = True
    window_multiple_px: ClassVar[int] = 64
    working_multiple_px: ClassVar[int] = 8  # it halves a picture three times

    method: Literal["lama"] = "lama"
    engine: Literal["built-in", "simple-lama"] = "built-in"
    """What runs the network. `simple-lama`: the package simple-lama-inpainting, as a reference: one
    window at a time, in float32, and only of the published TorchScript file."""
    weights: str = "big-lama"
    """A model's name (`catalog-cleanup models list`), a path, or an s3:// URI. The environment's
    LAMA_MODEL, a path, comes before the default name."""
    weights_pin: WeightsPin = ""
    """What the content of `weights` must be: `sha256:HEX` of a file or folder as `catalog-cleanup
    models pull` prints it, `md5:HEX`, or a hub's `commit:HEX`. Empty: what it is when a run starts.
    """
    window: Literal["region", "photo"] = "region"
    """What it sees: the surroundings of a patch, or the whole photo, as the published method (but
    for at most 7 px along one edge, so that nothing is padded)."""
    context: float = Field(3.0, ge=1.0, le=20.0)
    """With `region`: side of the window over side of the masked part, on each axis."""
    min_context_px: int = Field(128, ge=16, le=4096)
    """With `region`: at least this much of the photo is seen on each side."""
    max_side_px: int = Field(2048, ge=256, le=8192)
    """Windows with a longer side are filled at this size, rounded up to a multiple of 64: LaMa was
    trained on 256 px, repeats texture well up to about 2,000 px, and loses the thread beyond."""
    dtype: Dtype = "auto"
    """Of the convolutions, the Fourier transform stays float32; auto: bfloat16 where it is fast."""
    compile: bool = False
    """Compile the network (torch.compile): slower to start, faster afterwards."""
    batch_size: Annotated[int, NEUTRAL] = Field(8, ge=1, le=256)
    """Windows filled at once, at most; halved as often as memory asks for it."""

    @model_validator(mode="after")
    def _engine_can(self) -> Self:
        plain = self.dtype in ("auto", "float32") and not self.compile
        if self.engine == "simple-lama" and not plain:
            raise ValueError("engine = simple-lama runs in float32, and is not compiled")
        return self

    def context_for(self, width: int, height: int) -> tuple[float, int]:
        """See the base class."""
        whole_photo = self.window == "photo"
        return self.context, max(width, height) if whole_photo else self.min_context_px

    @property
    def own_max_side_px(self) -> int:
        """See the base class."""
        return -(-self.max_side_px // self.window_multiple_px) * self.window_multiple_px


#: The methods that remove: the table in which a new one is entered.
RemoveOptions = Annotated[
    TeleaOptions | NavierStokesOptions | PatchMatchOptions | LamaOptions,
    Field(discriminator="method"),
]


class UpscaleOptions(Section):
    """Brings a crop to the size at which the refiner works."""

    method: Literal["lanczos", "model"] = "lanczos"
    """`model`: a super-resolution network, and Lanczos for what is left to the target."""
    weights: str = ""
    """Of the network: a model's name, a path or an s3:// URI; any that spandrel knows."""
    weights_pin: WeightsPin = ""
    """As in lama."""
    tile_px: int = Field(512, ge=64, le=4096)
    """Larger crops are enlarged in tiles of this side, which overlap."""
    overlap_px: int = Field(32, ge=0, le=512)
    """By how much tiles overlap."""
    dtype: Dtype = "auto"
    """auto: 16 bits where the network declares that it can, and the device is fast at it."""


class DiffusionOptions(MethodOptions):
    """What all refiners by diffusion have; a subclass changes the defaults that differ for it.

    ``loader`` offers ``load(folder, options, device)`` and ``load_encoder(folder, options,
    device)``: see :mod:`stages.models.refiners`.
    """

    pool: ClassVar[Pool] = "large_gpu"

    weights: str
    """A model's name, or the folder of a diffusers pipeline: a path or an s3:// URI."""
    weights_pin: WeightsPin = ""
    """As in lama."""
    when: When = "always"
    """auto: leave the removal's fill as it is where it lacks no more than `auto_detail`."""
    auto_detail: float = Field(1.5, ge=0, le=255)
    """With `auto`: fine detail in levels of 255, by which the fill falls short of its ring."""
    size_px: int = Field(1024, ge=64, le=2048)
    """Longer side of the crop as the model sees it; both sides become multiples of 16."""
    denoise: float = Field(0.8, gt=0, le=1)
    """As ComfyUI means it: of int(steps / denoise) steps the last `steps` are run. At 1, objects
    tend to come back."""
    steps: int = Field(ge=1, le=200)
    guidance: float
    scheduler: Scheduler = "simple"
    """How the noise levels are spaced, by the names that they have in ComfyUI. Its templates for
    FLUX-Fill take `normal`, which spends the last step on a level of 0.001."""
    shift: float = Field(ge=0, le=10)
    """Of the noise schedule (mu), at any size."""
    prompt: str = ""
    """What to paint; a manifest's column `prompt` goes before it."""
    dtype: Dtype = "bfloat16"
    compile: bool = False
    """Compile the repeated blocks: slower to start and at each new size, faster afterwards."""
    offload: Annotated[bool, NEUTRAL] = False
    """Keep on the GPU only the part at work: for smaller GPUs, slower."""
    batch_size: Annotated[int, NEUTRAL] = Field(4, ge=1, le=64)
    """Crops refined at once, at most; halved as often as memory asks for it."""


class FluxFillOptions(DiffusionOptions):
    """FLUX.1-Fill-dev: repairs texture where the removal left it soft."""

    loader: ClassVar[str] = "stages.models.refiners.flux_fill"

    method: Literal["flux-fill"] = "flux-fill"
    weights: str = "flux1-fill-dev"
    steps: int = Field(20, ge=1, le=200)
    guidance: float = Field(30.0, ge=0, le=100)
    shift: float = Field(1.15, ge=0, le=10)
    noise_mask: bool = False
    """Keep the known area on course in every step, as ComfyUI's noise mask does."""
    fp8: bool = False
    """Linear layers in 8-bit floating point (torchao; takes a GPU of compute capability 8.9, and
    bfloat16)."""
    attention: str = ""
    """An attention backend of diffusers, e.g. `flash` or `_flash_3_hub`; empty: its own choice."""


class Flux2KleinOptions(DiffusionOptions):
    """FLUX.2-klein-4B: smaller, and under a licence that allows commercial use."""

    loader: ClassVar[str] = "stages.models.refiners.flux2_klein"

    method: Literal["flux2-klein"] = "flux2-klein"
    weights: str = "flux2-klein-4b"
    steps: int = Field(8, ge=1, le=200)
    guidance: float = Field(1.0, ge=1, le=100)
    """Over 1 only for weights that are not distilled (klein-base), at twice the work."""
    shift: float = Field(2.02, ge=0, le=10)
    """ComfyUI's for FLUX.2."""
    prompt: str = "clean background, nothing added"


#: The methods that refine: the table in which a new one is entered.
RefineOptions = Annotated[FluxFillOptions | Flux2KleinOptions, Field(discriminator="method")]


class JudgeOptions(Section):
    """Looks whether a refiner painted an object back into the hole, and says what to do then."""

    threshold: float = Field(0.5, ge=0, le=1)
    """An object came back where the score, 0 to 1, is over this: 0.5 is the calibrated one
    (`python -m tests.bench.judge`), 1 never flags."""
    attempts: int = Field(2, ge=1, le=16)
    """Seeds tried, one after another, until the result of one passes."""
    fallback: Literal["remove", "denoise", "keep"] = "remove"
    """If none passes: the removal's fill; the refiner at `fallback_denoise`, and the removal's fill
    if that does not pass either; or the try with the lowest score. The photo is flagged each time.
    """
    fallback_denoise: float = Field(0.5, gt=0, le=1)
    """As `refine.denoise`, and less: closer to the removal."""
    bad_output: Literal["fail", "remove"] = "fail"
    """Where each try was not a number, or black: the row fails, or has the removal's fill and a
    flag."""


class OutputOptions(Section):
    """How the result is stored."""

    format: Literal["source", "jpeg", "png", "webp", "tiff", "avif"] = "source"
    """The photo's own, or one for all; another one is coded from the samples."""
    quality: int = Field(0, ge=0, le=100)
    """Of lossy files coded from their samples, 1 to 100; 0: 90, which is coded more finely
    than most files are. JPEGs that stay JPEGs keep their own tables, whatever this says.
    """
    fidelity: Literal["any", "exact"] = "any"
    """exact: refuse a result that had to be coded again outside the mask too: lossy WebP, AVIF and
    HEIC, JPEGs whose blocks cannot be kept, conversions that lose samples."""
    keep_steps: Annotated[bool, NEUTRAL] = False
    """With a refiner: keep each crop as it was after the removal, and after the refiner, under
    ``steps/``, for `catalog-cleanup report`. Of what is done already, nothing is kept."""


class MetadataOptions(Section):
    """What becomes of that inside a file which shows the old picture or vouches for it."""

    stale_preview: Literal["rebuild", "drop", "refuse"] = "rebuild"
    """JPEG thumbnails (EXIF, Photoshop, XMP) are drawn again, dropped, or the row is refused. All
    else that shows the old picture or vouches for it (other previews, a TIFF's smaller copies, gain
    maps, depth, motion photo videos, C2PA signatures) is dropped, or refused too."""
    mark_edit: bool = False
    """Say in XMP, and in EXIF where there is some, that software edited the picture, and whether a
    generative model did (IPTC digital source type)."""


class Limits(Section):
    """What is refused rather than processed."""

    max_megapixels: float = Field(100.0, gt=0)
    """A photo or mask with more pixels is refused before it is decoded."""
    max_mask_share: float = Field(0.8, gt=0, le=1)
    """A mask that covers more of its photo is refused: most likely its polarity is wrong."""
    damage: Literal["refuse", "repair"] = "refuse"
    """Damage that costs no pixel (a JPEG without its end marker, a PNG's chunk with a wrong
    checksum): the photo or mask is refused, or repaired, with a note in `fidelity_note`."""
    min_mask_px: int = Field(16, ge=1)
    """If all that is marked, before it is grown, has fewer px, it is refused: most likely a stray
    pixel, or shapes in other units. In photos of less than 1,000 times this, a thousandth counts.
    """
    max_seconds: float = Field(900.0, gt=0)
    """A photo that takes longer, loading of models left out, is given up: it hangs."""
    max_memory_mib: int = Field(4096, ge=64)
    """What an actor without models may take for a photo, beyond what it has when idle."""
    schemes: tuple[Scheme, ...] = Field(SCHEMES, min_length=1)
    """Where photos and masks may lie: ``file`` is the disk, by path or URI. With ``["s3"]`` a
    stranger's manifest cannot have the nodes' own files read. There is no HTTP to allow."""
