"""Models of the real shapes without their weights, for vLLM's ``--load-format dummy``.

The engine does the same work for any weights; only what it says is noise. A tokenizer of the real
size is made here, so that nothing is downloaded.

    python -m benchmarks.shapes llama-3.1-8b DIR
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

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
SHAPES = {
    "tiny": {
        **_LLAMA,
        "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 768, "vocab_size": 4096,
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
    for number in range(len(vocabulary), int(str(config["vocab_size"]))):
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


def main(arguments: list[str]) -> int:
    """Write one shape; say which there are on wrong use."""
    if len(arguments) != 2 or arguments[0] not in SHAPES:  # noqa: PLR2004
        print(f"usage: python -m benchmarks.shapes {'|'.join(SHAPES)} DIR", file=sys.stderr)
        return 64
    write_model(arguments[0], Path(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
