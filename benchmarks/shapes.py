"""Models of the real shapes without their weights, for vLLM's ``--load-format dummy``.

The engine does the same work for any weights; only what it says is noise. A tokenizer of the real
size is made here, so that nothing is downloaded. ``--weights`` writes random ones of the
smallest too, always the same; it needs torch and safetensors, as vLLM does. Nothing of teeverify is
needed: this also runs in an environment that has vLLM alone.

    python -m benchmarks.shapes llama-3.1-8b DIR
    python -m benchmarks.shapes tiny DIR --weights
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "max_position_embeddings": 8192,
    "vocab_size": 128256,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        **_LLAMA,
        "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 768, "vocab_size": 4096,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    },
    "smollm-135m": {  # a real one that a CPU can run
        **_LLAMA,
        "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "head_dim": 64, "intermediate_size": 1536, "vocab_size": 49152,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    },
    "llama-3.1-8b": {
        **_LLAMA,
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "torch_dtype": "bfloat16",
    },
    "phi-3-14b-128k": {
        **_LLAMA,
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "rope_theta": 10000.0,
        "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40,
        "num_key_value_heads": 10, "intermediate_size": 17920, "vocab_size": 32064,
        "pad_token_id": 2, "torch_dtype": "bfloat16",
    },
    "llama-3.1-70b-fp8": {
        **_LLAMA,
        "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "intermediate_size": 28672, "torch_dtype": "bfloat16",
        # Made in FP8, never in bfloat16: 70 GB, not 141.
        "quantization_config": _FP8,
    },
}  # fmt: skip

_SPECIAL = ["<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>", "<|system|>"]
_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def write_model(shape: str, folder: Path) -> None:
    """Write ``config.json`` and a tokenizer of the shape's vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415

    config = SHAPES[shape]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Python's own source is text that every machine has.
    sources = [str(path) for path in sorted(Path(json.__file__).parent.parent.glob("*.py"))]
    tokenizer.train(sources, trainer)
    text = json.loads(tokenizer.to_str())
    vocabulary = text["model"]["vocab"]
    # Ids above the trained ones decode to something, so that every token is seen in the stream.
    for number in range(len(vocabulary), config["vocab_size"]):
        vocabulary[f"Ġw{number}"] = number
    (folder / "tokenizer.json").write_text(json.dumps(text))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<s>",
                "eos_token": "</s>",
                "pad_token": "<pad>",
                "chat_template": _TEMPLATE,
            }
        )
    )


def write_weights(shape: str, folder: Path) -> None:
    """Write random weights, with Llama's names and shapes."""
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    torch.manual_seed(1)
    made = {
        name: torch.ones(size, dtype=torch.bfloat16)
        if name.endswith("norm.weight")
        else (torch.randn(size) * 0.05).to(torch.bfloat16)
        for name, size in _tensors(SHAPES[shape])
    }
    save_file(made, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _tensors(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, width = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        yield f"{layer}.self_attn.q_proj.weight", (queries, hidden)
        yield f"{layer}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{layer}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, queries)
        yield f"{layer}.mlp.gate_proj.weight", (width, hidden)
        yield f"{layer}.mlp.up_proj.weight", (width, hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, width)
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)


def main() -> None:
    """Write one shape."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes", description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--weights", action="store_true", help="random ones; of 'tiny' only")
    options = parser.parse_args()
    if options.weights and options.shape != "tiny":
        parser.error("--weights are written of 'tiny' only")
    write_model(options.shape, options.folder)
    if options.weights:
        write_weights(options.shape, options.folder)


if __name__ == "__main__":
    main()
