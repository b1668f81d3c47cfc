"""Small pipelines with random weights: the published ones' classes and layout, in a megabyte."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    FluxFillPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
    ZImageInpaintPipeline,
)
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.support.models.networks import (
    SDXL_SCHEDULER,
    make_klein_transformer,
    make_klein_vae,
    make_sdxl_unet,
    make_sdxl_vae,
    make_transformer,
    make_vae,
    make_z_image_transformer,
)

_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def save_flux_fill(folder: Path) -> Path:
    """Write a whole FLUX-Fill pipeline, shifted by size as the published one."""
    torch.manual_seed(0)
    vae = make_vae(tiny=True)
    with torch.no_grad():  # latents as varied as real ones
        vae.encoder.conv_out.weight.mul_(8)
    pipe = FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15
        ),
        vae=vae,
        transformer=make_transformer(tiny=True),
        tokenizer=_clip_tokenizer(),
        text_encoder=CLIPTextModel(_clip_config()),
        tokenizer_2=T5Tokenizer(
            vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
            + [(chr(code), -3.0) for code in range(33, 127)],
            extra_ids=0,
            model_max_length=512,
        ),
        text_encoder_2=T5EncoderModel(
            T5Config(
                vocab_size=98,
                d_model=32,
                d_kv=8,
                d_ff=37,
                num_layers=2,
                num_heads=4,
                feed_forward_proj="gated-gelu",
                is_encoder_decoder=False,
            )
        ),
    )
    pipe.save_pretrained(folder)
    return folder


def save_klein(folder: Path) -> Path:
    """Write a whole FLUX.2-klein pipeline, named as the published ones."""
    torch.manual_seed(0)
    tokenizer = _qwen_tokenizer()
    pipe = Flux2KleinInpaintPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=make_klein_vae(tiny=True),
        transformer=make_klein_transformer(tiny=True),
        tokenizer=tokenizer,
        text_encoder=Qwen3ForCausalLM(_qwen_config(len(tokenizer), layers=28)),
        is_distilled=True,
    )
    pipe.save_pretrained(folder)
    _rename(folder, "Flux2KleinPipeline")
    return folder


def save_small_decoder(folder: Path) -> Path:
    """Write a VAE laid out as FLUX.2-small-decoder."""
    torch.manual_seed(0)
    make_klein_vae(tiny=True, small_decoder=True).save_pretrained(folder)
    return folder


def save_z_image(folder: Path) -> Path:
    """Write a whole Z-Image pipeline, named as the published one."""
    torch.manual_seed(0)
    tokenizer = _qwen_tokenizer()
    vae = make_vae(tiny=True)
    transformer = make_z_image_transformer(tiny=True)
    with torch.no_grad():  # latents as varied as real ones; random pad tokens are zeros
        vae.encoder.conv_out.weight.mul_(8)
        for token in (transformer.x_pad_token, transformer.cap_pad_token):
            token.normal_()
    pipe = ZImageInpaintPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        transformer=transformer,
        tokenizer=tokenizer,
        text_encoder=Qwen3Model(_qwen_config(len(tokenizer), layers=4)),
    )
    pipe.save_pretrained(folder)
    _rename(folder, "ZImagePipeline")
    return folder


def save_sdxl_inpaint(folder: Path) -> Path:
    """Write a whole SDXL inpainting pipeline, with the published ``scheduler_config.json``."""
    torch.manual_seed(0)
    vae = make_sdxl_vae(tiny=True)
    with torch.no_grad():
        vae.encoder.conv_out.weight.mul_(8)
    pipe = StableDiffusionXLInpaintPipeline(
        scheduler=EulerDiscreteScheduler(**SDXL_SCHEDULER),
        vae=vae,
        unet=make_sdxl_unet(tiny=True),
        tokenizer=_clip_tokenizer(),
        text_encoder=CLIPTextModel(_clip_config()),
        tokenizer_2=_clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config()),
    )
    pipe.save_pretrained(folder)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    of_others = {"clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True}
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | of_others))
    return folder


#: The layers of SDXL's UNet that OSOR's adapters change, by the ends of their names.
OSOR_LAYERS = (
    "to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut", "proj_in",
    "proj_out", "ff.net.2", "ff.net.0.proj",
)  # fmt: skip


def osor_tensors(unet: UNet2DConditionModel, rank: int) -> dict[str, torch.Tensor]:
    """Random tensors of the names and shapes in OSOR's published file, for a UNet."""
    found = {}
    shapes = {name.removesuffix(".weight"): each.shape for name, each in unet.named_parameters()}
    for name, (out, *into) in shapes.items():
        if name.endswith(tuple(f".{each}" for each in OSOR_LAYERS)):
            prefix = f"unet.{name}.lora_"
            found[f"{prefix}A.default.weight"] = torch.randn(rank, *into) / rank
            up = torch.randn(out, rank, *(1 for _ in into[1:]))
            found[f"{prefix}B.default.weight"] = 0.1 * up
    found["unet.conv_out.weight"] = torch.randn(5, unet.conv_out.in_channels, 3, 3) / 8
    found["unet.conv_out.bias"] = torch.zeros(5)
    return found


def save_osor(folder: Path, prefix: str = "") -> dict[str, str]:
    """Write OSOR-SDXL's three parts; each has the name of its option, after the prefix."""
    base = save_sdxl_inpaint(folder / "base")
    unet = make_sdxl_unet(tiny=True)
    save_file(osor_tensors(unet, rank=4), folder / "osor.safetensors")
    text = {"prompt_embeds": torch.randn(1, 77, 64), "pooled_prompt_embeds": torch.randn(1, 32)}
    save_file(text, folder / "prompt.safetensors")
    return {
        f"{prefix}weights": str(folder / "osor.safetensors"),
        f"{prefix}base_weights": str(base),
        f"{prefix}prompt_weights": str(folder / "prompt.safetensors"),
    }


def _rename(folder: Path, pipeline: str) -> None:
    """Name the pipeline as the published folder does."""
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": pipeline}))


def _qwen_config(words: int, layers: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=words,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )


def _clip_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=514,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )


def _clip_tokenizer() -> CLIPTokenizer:
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def _qwen_tokenizer() -> Qwen2TokenizerFast:
    pieces = [*sorted(ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return Qwen2TokenizerFast(
        vocab=vocab, merges=[], chat_template=_CHAT, pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
