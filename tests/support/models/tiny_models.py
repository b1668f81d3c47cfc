"""Small pipelines with random weights: the published ones' classes and layout, in a megabyte."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    FluxFillPipeline,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.support.models.networks import (
    make_klein_transformer,
    make_klein_vae,
    make_transformer,
    make_vae,
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
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
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
        ),
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


def save_klein(folder: Path, *, distilled: bool = True) -> Path:
    """Write a whole FLUX.2-klein pipeline, named as the published ones."""
    torch.manual_seed(0)
    tokenizer = _qwen_tokenizer()
    pipe = Flux2KleinInpaintPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=make_klein_vae(tiny=True),
        transformer=make_klein_transformer(tiny=True),
        tokenizer=tokenizer,
        text_encoder=Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=28,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
            )
        ),
        is_distilled=distilled,
    )
    pipe.save_pretrained(folder)
    index = folder / "model_index.json"
    named = json.loads(index.read_text()) | {"_class_name": "Flux2KleinPipeline"}
    index.write_text(json.dumps(named))
    return folder


def save_small_decoder(folder: Path) -> Path:
    """Write a VAE laid out as FLUX.2-small-decoder."""
    torch.manual_seed(0)
    make_klein_vae(tiny=True, small_decoder=True).save_pretrained(folder)
    return folder


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
