"""Options of what runs a diffusers pipeline, be it a removal method or a refiner."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.method_options import NOT_HASHED, Dtype, Section, WeightsPin


class DiffusersOptions(Section):
    """Options of what runs a diffusers pipeline."""

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
    def loads_to_device(self) -> bool:
        """Whether the model is loaded straight to the device, which presumably holds all of it."""
        return not self.offload

    @model_validator(mode="after")
    def _adapters_match(self) -> Self:
        for name in ("lora_scales", "lora_pin"):
            if len(getattr(self, name)) not in (0, len(self.lora)):
                raise ValueError(f"{name} needs one value for each of lora, or none")
        return self


#: How many steps a sampler can schedule. LCM's are a subset of the 50 that it is distilled for.
MAX_SCHEDULED_STEPS = {"euler": 1000, "lcm": 50}

#: "We also find by adding these prompt, the model can work even better", say RORem's authors.
ROREM_PROMPT = (
    "4K, high quality, masterpiece, Highly detailed, Sharp focus, Professional, photorealistic, "
    "realistic"
)


class SdxlOptions(DiffusersOptions):
    """Options of an SDXL inpainting pipeline: removal method and refiner."""

    sampler: Literal["euler", "lcm"] = "euler"
    """lcm: for an adapter, named in `lora`, that is distilled for few steps (latent consistency);
    set `steps` to its number, such as 4."""

    @property
    def scheduled_and_executed_steps(self) -> tuple[int, int]:
        """The number of scheduled steps, and how many of them, the last ones, are executed."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _sampler_schedules_them(self) -> Self:
        scheduled, executed = self.scheduled_and_executed_steps
        limit = MAX_SCHEDULED_STEPS[self.sampler]
        if not 1 <= executed <= scheduled <= limit:
            raise ValueError(
                f"{executed} of {scheduled} steps would run, but sampler = {self.sampler} "
                f"schedules 1 to {limit}, of which at least 1 must run: change steps, strength or "
                "denoise"
            )
        return self
