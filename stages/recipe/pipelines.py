"""Options of what runs a pipeline of diffusers, be it a remover or a refiner."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.method_options import NOT_HASHED, Dtype, Section, WeightsPin


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
ROREM_PROMPT = (
    "4K, high quality, masterpiece, Highly detailed, Sharp focus, Professional, photorealistic, "
    "realistic"
)


class SdxlOptions(PipelineOptions):
    """Options of an SDXL inpainting pipeline: remover and refiner."""

    sampler: Literal["euler", "lcm"] = "euler"
    """lcm: for an adapter, named in `lora`, that is distilled for few steps (latent consistency);
    set `steps` to its number, such as 4."""

    @property
    def planned_and_run(self) -> tuple[int, int]:
        """The number of planned steps, and how many of them, the last ones, are run."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _sampler_plans_them(self) -> Self:
        planned, run = self.planned_and_run
        limit = MAX_PLANNED[self.sampler]
        if not 1 <= run <= planned <= limit:
            raise ValueError(
                f"{run} of {planned} steps would run, but sampler = {self.sampler} plans 1 to "
                f"{limit}, of which at least 1 must run: change steps, strength or denoise"
            )
        return self
