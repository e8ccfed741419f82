"""A tiny language model that comes with its own code, as old repositories on the hub do."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from support import language_models

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 32
CODE = dedent(
    """
    import torch
    from torch import nn
    from transformers import GenerationMixin, PreTrainedModel, PretrainedConfig
    from transformers.modeling_outputs import CausalLMOutputWithPast


    class MemorylessConfig(PretrainedConfig):
        model_type = "memoryless"

        def __init__(self, vocab_size=8, hidden_size=8, max_position_embeddings=128, **kwargs):
            self.vocab_size = vocab_size
            self.hidden_size = hidden_size
            self.num_hidden_layers = 1
            self.max_position_embeddings = max_position_embeddings
            super().__init__(**kwargs)


    class MemorylessForCausalLM(PreTrainedModel, GenerationMixin):
        config_class = MemorylessConfig
        _supports_cache_class = False

        def __init__(self, config):
            super().__init__(config)
            self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
            self.mix = nn.Linear(config.hidden_size, config.hidden_size)
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            self.post_init()

        def get_input_embeddings(self):
            return self.embed

        def get_output_embeddings(self):
            return self.lm_head

        def prepare_inputs_for_generation(self, input_ids, **kwargs):
            return {"input_ids": input_ids}

        def forward(self, input_ids=None, attention_mask=None, **kwargs):
            hidden = torch.tanh(self.mix(self.embed(input_ids)))
            return CausalLMOutputWithPast(logits=self.lm_head(hidden))
    """
)


def weights() -> dict[str, torch.Tensor]:
    """Its weights, seeded."""
    torch.manual_seed(3)
    words = len(language_models.tokenizer())
    shapes = {"embed.weight": (words, SIZE), "mix.weight": (SIZE, SIZE), "mix.bias": (SIZE,)}
    return {name: torch.randn(shape) for name, shape in (shapes | {"lm_head.weight": (words, SIZE)}).items()}


def build(folder: Path, *, without: str = "") -> Path:
    """Writes the model to `folder`, without the weight of that name."""
    folder.mkdir(parents=True)
    language_models.tokenizer().save_pretrained(folder)
    config = {
        "model_type": "memoryless",
        "architectures": ["MemorylessForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_memoryless.MemorylessConfig",
            "AutoModelForCausalLM": "modeling_memoryless.MemorylessForCausalLM",
        },
        "vocab_size": len(language_models.tokenizer()),
        "hidden_size": SIZE,
        "max_position_embeddings": 128,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_memoryless.py").write_text(CODE)
    kept = {name: tensor for name, tensor in weights().items() if name != without}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def greedy(prompt: list[int], length: int) -> list[int]:
    """The tokens that it has to write: each depends on the one before it, and on nothing else."""
    tensors, tokens = weights(), list(prompt)
    for _ in range(length):
        hidden = torch.tanh(tensors["mix.weight"] @ tensors["embed.weight"][tokens[-1]] + tensors["mix.bias"])
        tokens.append(int((tensors["lm_head.weight"] @ hidden).argmax()))
    return tokens[len(prompt) :]
