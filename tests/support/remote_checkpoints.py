"""Models that come with their own code, built here, and what each of them has to give."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from support import checkpoints, foreign_alibi, foreign_forward, foreign_others

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

TEXTS = (
    "the weather is nice",
    "quarterly report of the tax filings",
    "a ship sails at dawn in winter and the harbour is blue and the river is green and the city is red",
)
SIZE = checkpoints.DIMENSION
REPOSITORY = "some-org/bert-with.alibi"  # every character that a repository's name can have
_WORDS = len(checkpoints.tokenizer())
_SETTINGS = {
    "vocab_size": _WORDS, "hidden_size": SIZE, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    "type_vocab_size": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    """One style of a model with code.

    Attributes:
        config: Its `config.json`.
        code: Its code, by path in the model's folder.
        shapes: The shapes of its weights.
        forward: What it computes.
    """

    config: dict[str, Any]
    code: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    forward: Callable[[dict[str, Tensor], Tensor], Tensor]
    pooling: Callable[[Tensor, dict[str, Tensor]], Tensor] = field(default=foreign_forward.mean)

    def build(self, folder: Path) -> Path:
        """Writes the model to `folder`: a transformer with this code, and mean pooling."""
        folder.mkdir(parents=True)
        checkpoints.tokenizer().save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(self.config))
        save_file(_random(self.shapes), folder / "model.safetensors", metadata={"format": "pt"})
        self.write_code(folder)
        _write_modules(folder, "sentence_transformers.sentence_transformer.modules.pooling.Pooling", "1_Pooling")
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(
            json.dumps({"embedding_dimension": SIZE, "pooling_mode": "mean"})
        )
        return folder

    def write_code(self, folder: Path) -> None:
        """Writes the code alone."""
        for path, source in self.code.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(source)

    def vectors(self, folder: Path, texts: Sequence[str] = TEXTS) -> Tensor:
        """What the weights in `folder` give for `texts`, in plain torch."""
        weights = load_file(folder / "model.safetensors")
        encode = checkpoints.tokenizer()
        return torch.stack(
            [self.pooling(self.forward(weights, torch.tensor(encode(text)["input_ids"])), weights) for text in texts]
        )


def _write_modules(folder: Path, kind: str, path: str) -> None:
    transformer = "sentence_transformers.base.modules.transformer.Transformer"
    modules = [(0, "0", "", transformer), (1, "1", path, kind)]
    (folder / "modules.json").write_text(
        json.dumps([{"idx": i, "name": name, "path": place, "type": type_} for i, name, place, type_ in modules])
    )


def _random(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights with which every part of a model shows in its vectors: norms around one, attention that is no mean."""
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}
    norms = {name: value + 1 for name, value in values.items() if "norm" in name.lower() and name.endswith("weight")}
    return values | norms


def _linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (SIZE,), f"{name}.bias": (SIZE,)}


def alibi(*, qk_post_norm: bool = False, positions: int = 2048) -> Foreign:
    """jina-embeddings-v2: `model_type` is bert, and the code is another repository's."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (_WORDS, SIZE),
        "embeddings.token_type_embeddings.weight": (2, SIZE),
    }
    shapes |= _norm("embeddings.LayerNorm")
    for layer in range(2):
        part = f"encoder.layer.{layer}.attention"
        for name in ("query", "key", "value", "dense"):
            shapes |= _linear(f"{part}.{name}", SIZE, SIZE)
        for name in ("LayerNorm", *(("layer_norm_q", "layer_norm_k") if qk_post_norm else ())):
            shapes |= _norm(f"{part}.{name}")
        part = f"encoder.layer.{layer}.mlp"
        shapes |= _linear(f"{part}.gated_layers", 128, SIZE, bias=False) | _linear(f"{part}.wo", SIZE, 64)
        shapes |= _norm(f"{part}.layernorm")
    repository = f"{REPOSITORY}-qk-post-norm" if qk_post_norm else REPOSITORY
    auto_map = {
        "AutoConfig": f"{repository}--configuration_bert.AlibiBertConfig",
        "AutoModel": f"{repository}--modeling_bert.AlibiBertModel",
        "AutoModelForMaskedLM": f"{repository}--modeling_bert.AlibiBertForMaskedLM",  # wanted by nobody here
    }
    # By default long enough for the kernel to hand out zeros where transformers leaves memory as it finds it.
    long = {"max_position_embeddings": positions, "qk_post_norm": qk_post_norm, "auto_map": auto_map}
    vendored = f"code/{repository.replace('/', '--')}"
    return Foreign(
        config=_SETTINGS | long | {"model_type": "bert", "architectures": ["AlibiBertForMaskedLM"]},
        code={
            f"{vendored}/configuration_bert.py": foreign_alibi.ALIBI_CONFIGURATION,
            f"{vendored}/modeling_bert.py": foreign_alibi.ALIBI_MODELING,
        },
        shapes=shapes,
        forward=foreign_forward.alibi,
    )


def growing() -> Foreign:
    """MosaicBERT: the code is the model's own, and the configuration is transformers'."""
    shapes: dict[str, tuple[int, ...]] = {"embeddings.weight": (_WORDS, SIZE)}
    for layer in range(2):
        part = f"encoder.layer.{layer}"
        shapes |= _linear(f"{part}.Wqkv", 3 * SIZE, SIZE) | _linear(f"{part}.dense", SIZE, SIZE) | _norm(f"{part}.norm")
    auto_map = {"AutoModel": "bert_layers.BertModel"}
    return Foreign(
        config=_SETTINGS | {"model_type": "bert", "alibi_starting_size": 4, "auto_map": auto_map},
        code={"bert_layers.py": foreign_alibi.GROWING_MODELING},
        shapes=shapes,
        forward=foreign_forward.growing,
    )


def rotary(*, own_loader: bool = True) -> Foreign:
    """nomic-embed: an architecture that transformers does not know."""
    shapes: dict[str, tuple[int, ...]] = {"embeddings.weight": (_WORDS, SIZE)}
    for layer in range(2):
        part = f"layers.{layer}"
        shapes |= _linear(f"{part}.Wqkv", 3 * SIZE, SIZE, bias=False) | _norm(f"{part}.norm")
        shapes |= _linear(f"{part}.out_proj", SIZE, SIZE, bias=False)
    auto_map = {"AutoConfig": "configuration_rotary.RotaryConfig", "AutoModel": "modeling_rotary.RotaryModel"}
    config = {"vocab_size": _WORDS, "n_embd": SIZE, "n_layer": 2, "n_head": 4, "n_positions": 64}
    modeling = foreign_others.ROTARY_MODELING
    if not own_loader:
        modeling = modeling.replace("def from_pretrained(", "def from_pretrained_of_no_use(")
    return Foreign(
        config=config | {"model_type": "rotary_of_its_own", "rotary_emb_base": 1000.0, "auto_map": auto_map},
        code={"configuration_rotary.py": foreign_others.ROTARY_CONFIGURATION, "modeling_rotary.py": modeling},
        shapes=shapes,
        forward=foreign_forward.rotary,
    )


def experts(*, count: int = 32) -> Foreign:
    """A mixture of experts: which of them runs depends on the text."""
    shapes: dict[str, tuple[int, ...]] = {"embeddings.weight": (_WORDS, SIZE), "router.weight": (count, SIZE)}
    for index in range(count):
        shapes |= _linear(f"experts.{index}", SIZE, SIZE)
    auto_map = {"AutoConfig": "modeling_experts.ExpertsConfig", "AutoModel": "modeling_experts.ExpertsModel"}
    return Foreign(
        config=_SETTINGS | {"model_type": "experts_of_its_own", "num_experts": count, "auto_map": auto_map},
        code={"modeling_experts.py": foreign_others.EXPERTS_MODELING},
        shapes=shapes,
        forward=foreign_forward.experts,
    )


def with_own_pooling(folder: Path) -> Path:
    """A transformer without code, and a pooling of the repository's own with weights; in `modules.json` alone."""
    checkpoints.sentence_transformer(folder)
    (folder / "own_pooling.py").write_text(foreign_others.POOLING)
    _write_modules(folder, "own_pooling.WeightedPooling", "1_WeightedPooling")
    (folder / "1_WeightedPooling").mkdir()
    (folder / "1_WeightedPooling" / "config.json").write_text(json.dumps({"size": SIZE}))
    save_file(_random(_linear("score", 1, SIZE)), folder / "1_WeightedPooling" / "model.safetensors")
    return folder
