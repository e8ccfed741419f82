"""What the torch engine hands over to be compiled."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from support import checkpoints
from transformers import BertJapaneseTokenizer

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines import compile_encoder
from langchain_localhf.engines.torch.encoder import TorchEncoder
from langchain_localhf.errors import CheckpointError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def encoder(tmp_path: Path) -> TorchEncoder:
    """A tiny model whose tokenizer runs in Python, as SigLIP's does, and cuts some texts into other tokens."""
    folder = checkpoints.sentence_transformer(tmp_path / "source")
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    shutil.copytree(folder, tmp_path / "slow")
    (tmp_path / "slow" / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)), encoding="utf-8")
    encoder = TorchEncoder(Checkpoint.read(folder), name="tiny", pooling=None, model_kwargs={"device": "cpu"})
    encoder._model[0].processor = BertJapaneseTokenizer.from_pretrained(
        tmp_path / "slow", word_tokenizer_type="basic", subword_tokenizer_type="wordpiece", local_files_only=True
    )
    assert not encoder._model.tokenizer.is_fast
    return encoder


def test_slow_tokenizer_with_a_fast_one_beside_it(encoder: TorchEncoder, tmp_path: Path) -> None:
    """What was saved in the faster form is handed over, with the limit of the model."""
    handed_over = json.loads(encoder.traceable().tokenizer_json)
    saved = json.loads((tmp_path / "slow" / "tokenizer.json").read_text(encoding="utf-8"))
    assert handed_over["model"] == saved["model"]
    assert handed_over["truncation"]["max_length"] == encoder.max_seq_length


def test_slow_tokenizer_alone(encoder: TorchEncoder, tmp_path: Path) -> None:
    """There is nothing that runs without transformers."""
    (tmp_path / "slow" / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModelError, match="BertJapaneseTokenizer cannot be compiled"):
        encoder.traceable()


def test_other_tokens_show(encoder: TorchEncoder, tmp_path: Path) -> None:
    """The comparison with torch finds a faster form that is not the same."""
    (tmp_path / "graph").mkdir()
    checkpoint = Checkpoint.read(tmp_path / "source")
    with pytest.raises(CheckpointError, match="other vectors than torch"):
        compile_encoder(encoder, checkpoint, tmp_path / "graph", name="tiny", precision="f32")
