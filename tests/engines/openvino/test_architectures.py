"""The architectures that embedding models are made of: each compiles, and gives torch's vectors."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from support import checkpoints

from langchain_localhf import engines
from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines.openvino.settings import GraphSettings
from langchain_localhf.engines.torch.encoder import TorchEncoder
from langchain_localhf.errors import LocalHFError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_TOKENS = 128
# The oldest versions of our range; nobody wrote down which one was the first that can be traced as a whole.
_TRACED_LESS = ("5.3.", "5.4.", "5.5.")
_ENCODER = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 140}
_DECODER = _ENCODER | {"num_key_value_heads": 2, "head_dim": 8}
_WINDOW = {"sliding_window": 8}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "bert": ("BertModel", _ENCODER, "mean", "right"),
    "xlm-roberta": ("XLMRobertaModel", _ENCODER, "cls", "right"),
    "mpnet": ("MPNetModel", _ENCODER, "mean", "right"),
    "distilbert": ("DistilBertModel", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}, "cls", "right"),
    "deberta-v2": (
        "DebertaV2Model",
        _ENCODER | {"relative_attention": True, "position_buckets": 32, "pos_att_type": ["p2c", "c2p"]},
        "mean",
        "right",
    ),
    "modernbert": (
        "ModernBertModel",
        _ENCODER | {"global_attn_every_n_layers": 2, "local_attention": 16},
        "mean",
        "right",
    ),
    "t5": ("T5EncoderModel", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}, "mean", "right"),
    "bloom": ("BloomModel", {"n_layer": 2, "n_head": 4}, "lasttoken", "right"),
    "qwen3": ("Qwen3Model", _DECODER, "lasttoken", "left"),
    "mistral": ("MistralModel", _DECODER | _WINDOW, "lasttoken", "right"),
    "gemma3": ("Gemma3TextModel", _DECODER | _WINDOW, "mean", "right"),
}


def saved(folder: Path, architecture: str) -> Path:
    """A tiny embedding model of an architecture."""
    name, settings, pooling, padding_side = ARCHITECTURES[architecture]
    tokenizer = checkpoints.tokenizer()
    tokenizer.padding_side, tokenizer.model_max_length = padding_side, _MAX_TOKENS
    kind = getattr(transformers, name)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "pad_token_id": 0} | settings
    torch.manual_seed(0)
    kind(kind.config_class(**sizes)).save_pretrained(folder / "transformer")
    tokenizer.save_pretrained(folder / "transformer")
    transformer = Transformer(str(folder / "transformer"))
    transformer.tokenizer.padding_side = padding_side
    pooled = Pooling(transformer.get_embedding_dimension(), pooling)
    model = SentenceTransformer(modules=[transformer, pooled, Normalize()], device="cpu")
    model.save(str(folder / "model"), create_model_card=False)
    checkpoints.edit_json(folder / "model" / "tokenizer_config.json", padding_side=padding_side)
    return folder / "model"


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of old versions of transformers
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_vectors_are_those_of_torch(architecture: str, tmp_path: Path) -> None:
    """At every length, alone and in batches, with the padding on the side where the tokenizer has it."""
    checkpoint = Checkpoint.read(saved(tmp_path, architecture))
    encoder = TorchEncoder(checkpoint, name=architecture, pooling=None, model_kwargs={"device": "cpu"})
    graph = tmp_path / "graph"
    graph.mkdir()
    try:
        compiled = engines.compile_encoder(encoder, checkpoint, graph, name=architecture, precision="f32")
    except LocalHFError:
        if version("transformers").startswith(_TRACED_LESS):
            pytest.skip("this version of transformers cannot be traced here, which is refused as it should be")
        raise
    (measured,) = compiled.parity
    assert measured.lowest_cosine > 0.99999
    assert measured.batch_difference < 1e-6
    settings = GraphSettings.model_validate_json((graph / "graph.json").read_bytes())
    assert settings.padding_side == ARCHITECTURES[architecture][3]
    assert settings.max_tokens == _MAX_TOKENS
