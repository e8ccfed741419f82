"""How many tokens texts and pairs have, counted beside the model."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
from support import checkpoints
from transformers import ByT5Tokenizer

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines.torch.encoder import TorchEncoder
from langchain_localhf.engines.torch.scorer import TorchScorer
from langchain_localhf.engines.torch.token_counts import TokenCounter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU = {"device": "cpu"}
TEXTS = ["", "the river", "the river " * 500, "Straße 東京"]


def encoder(folder: Path) -> TorchEncoder:
    """The model in a folder."""
    return TorchEncoder(Checkpoint.read(folder), name=folder.name, pooling=None, model_kwargs=dict(CPU))


def test_all_tokens_are_counted(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also those behind what the model reads, with the special ones, and without a word about it."""
    model = encoder(tiny)
    counts = model.count_tokens(TEXTS)
    assert counts[:3] == [2, 4, 1002]
    assert counts == [len(model._model.tokenizer(text)["input_ids"]) for text in TEXTS]
    assert max(counts) > (model.max_seq_length or 0)
    with caplog.at_level(logging.DEBUG):
        caplog.clear()
        model.count_tokens(TEXTS)
    assert caplog.records == []


def test_words_of_a_model_without_a_transformer(tmp_path: Path) -> None:
    """It has no special tokens, and no limit."""
    model = encoder(checkpoints.static(tmp_path / "static"))
    assert (model.count_tokens(TEXTS[:3]), model.max_seq_length) == ([0, 2, 1000], None)


def test_tokenizers_in_python(caplog: pytest.LogCaptureFixture) -> None:
    """They are asked themselves, and no long text makes one warn."""
    tokenizer = ByT5Tokenizer(model_max_length=64)
    with caplog.at_level(logging.DEBUG):
        assert TokenCounter(tokenizer, lock=threading.Lock()).count(["", "river", "river " * 100]) == [1, 6, 601]
    assert caplog.records == []
    words = WhitespaceTokenizer(["river", "ship"])
    assert TokenCounter(words, lock=threading.Lock()).count(["", "river ship", "ship " * 100]) == [0, 2, 100]


def test_counting_does_not_wait_for_the_model(tiny: Path) -> None:
    """While the model runs, its lock is held."""
    model = encoder(tiny)
    counted: list[int] = []
    with model._lock:
        thread = threading.Thread(target=lambda: counted.extend(model.count_tokens(TEXTS)))
        thread.start()
        thread.join(10)
        assert len(counted) == len(TEXTS)


@pytest.mark.parametrize(
    ("build", "prompts"),
    [
        (checkpoints.classifier, None),
        (checkpoints.cross_encoder, None),
        (checkpoints.cross_encoder, {"ask": "one two "}),
    ],
)
def test_pairs(tmp_path: Path, build: Callable[..., Path], prompts: dict[str, str] | None) -> None:
    """A pair has three special tokens, and the prompt that the model puts before it counts."""
    folder = build(tmp_path / "model", **({"prompts": prompts} if prompts else {}))
    model = TorchScorer(Checkpoint.read(folder), name="tiny", model_kwargs=dict(CPU))
    more = 2 if prompts else 0
    pairs = [("", ""), ("the river", "is red"), ("the", "river " * 500)]
    assert model.count_tokens(pairs) == [3 + more, 7 + more, 504 + more]
