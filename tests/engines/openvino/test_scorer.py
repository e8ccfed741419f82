"""Cross-encoders as compiled graphs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder
from support import checkpoints, compiled

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines import compile_scorer, compiling, open_scorer
from langchain_localhf.engines.base import PROBE_PAIRS
from langchain_localhf.engines.golden import record_scores
from langchain_localhf.engines.openvino.compile import native_precisions
from langchain_localhf.engines.openvino.scorer import OpenVINOScorer
from langchain_localhf.engines.parity import golden_pairs
from langchain_localhf.errors import CheckpointError, InputError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_localhf.engines.compiling import Compiled
    from langchain_localhf.store.compilation import Precision, ScoreParity

PAIRS = [
    ("a red ship sails at dawn", "the harbour"),
    ("", ""),
    ("", "tax"),
    ("winter " * 100, "summer"),
    ("winter", "summer city " * 100),
    ("river " * 60, "bridge " * 60),
    ("Привет, 東京 👩‍👩‍👧", "e\u0301 مرحبا"),
    *((f"query {i}", "model " * i) for i in range(1, 40, 3)),
]


def _compile(source: Path, folder: Path, precision: Precision = "f32", **model_kwargs: Any) -> Compiled[ScoreParity]:
    checkpoint = Checkpoint.read(source)
    scorer = open_scorer(checkpoint, name="tiny", model_kwargs={"device": "cpu", **model_kwargs})
    folder.mkdir()
    return compile_scorer(scorer, checkpoint, folder, name="tiny", precision=precision)


def _graph(source: Path, folder: Path, **model_kwargs: Any) -> OpenVINOScorer:
    return OpenVINOScorer(Checkpoint.read(source), model_kwargs=model_kwargs, folder=folder)


def _theirs(source: Path, **settings: Any) -> np.ndarray:
    return np.asarray(CrossEncoder(str(source), device="cpu", local_files_only=True, **settings).predict(PAIRS))


@pytest.mark.parametrize(
    ("make", "labels"),
    [(checkpoints.classifier, 3), (checkpoints.roberta_classifier, 1), (checkpoints.cross_encoder, 1)],
)
def test_scores_of_a_graph(tmp_path: Path, make: Callable[..., Path], labels: int) -> None:
    """Those of sentence-transformers: all together, in small batches, one by one; for every script and length."""
    source, folder = make(tmp_path / "source", labels=labels), tmp_path / "graph"
    made, theirs = _compile(source, folder), _theirs(source)
    scorer = _graph(source, folder)
    assert (scorer.labels, scorer.max_seq_length, scorer.unused_weights) == (labels, 64, ())
    assert scorer.score(PAIRS).shape == theirs.shape
    assert scorer.score(PAIRS).dtype == np.float32
    assert np.abs(scorer.score(PAIRS) - theirs).max() < 1e-5
    assert np.abs(scorer.score(PAIRS, batch_size=3) - theirs).max() < 1e-5
    assert np.abs(np.concatenate([scorer.score([pair]) for pair in PAIRS]) - theirs).max() < 1e-5
    assert np.allclose(scorer.probe_scores, scorer.score(PROBE_PAIRS), atol=1e-6)
    assert made.golden == record_scores(scorer.probe_scores)
    assert made.parity[0].largest_difference < 1e-5
    assert made.parity[0].batch_difference < 1e-5
    assert (made.parity[0].pairs, made.parity[0].order_kept) == (len(golden_pairs(64)), 1.0)


def test_threads() -> None:
    """Many threads get what one gets, whatever the others ask."""
    scorer = OpenVINOScorer(Checkpoint.read(compiled.cross_encoder().folder), model_kwargs={})
    alone = scorer.score(PAIRS)
    with ThreadPoolExecutor(8) as pool:
        turned = pool.map(lambda start: scorer.score(PAIRS[start:] + PAIRS[:start]), range(len(PAIRS)))
        for start, scores in enumerate(turned):
            assert np.abs(np.roll(scores, start) - alone).max() < 1e-5


def test_the_models_own_settings(tmp_path: Path) -> None:
    """Its activation function is in the graph; its prompt comes before the first text, unless the user has another."""
    source, folder = checkpoints.cross_encoder(tmp_path / "source", prompts={"red": "red "}), tmp_path / "graph"
    identity = "torch.nn.modules.linear.Identity"
    checkpoints.edit_json(source / "config_sentence_transformers.json", activation_fn=identity)
    _compile(source, folder)
    scores = _graph(source, folder).score(PAIRS)
    assert np.abs(scores - _theirs(source)).max() < 1e-5
    assert scores.max() > 1
    in_torch = open_scorer(Checkpoint.read(source), name="tiny", model_kwargs={"device": "cpu"})
    assert _graph(source, folder).count_tokens(PAIRS) == in_torch.count_tokens(PAIRS)
    blue = {"prompts": {"blue": "blue "}, "default_prompt_name": "blue"}
    assert np.abs(_graph(source, folder, **blue).score(PAIRS) - _theirs(source, **blue)).max() < 1e-5
    with pytest.raises(InputError, match="no prompt called 'green'"):
        _graph(source, folder, default_prompt_name="green")
    with pytest.raises(InputError, match="has no truncate_dim"):
        _graph(source, folder, truncate_dim=4)


@pytest.mark.skipif("bf16" not in native_precisions(), reason="this processor does not calculate in bf16")
def test_bf16_where_the_processor_has_it(tmp_path: Path) -> None:
    """`auto` measures both, and runs in bf16 only where that keeps its promise."""
    source = checkpoints.cross_encoder(tmp_path / "source")
    made = _compile(source, tmp_path / "graph", "auto")
    assert [parity.precision for parity in made.parity] == ["f32", "bf16"]
    difference = np.abs(_graph(source, tmp_path / "graph").score(PAIRS) - _theirs(source)).max()
    assert 1e-5 < difference < 2e-2


def test_a_graph_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By more than is promised, for one pair of all."""
    source = checkpoints.cross_encoder(tmp_path / "source")

    class Wrong(OpenVINOScorer):
        def score(self, pairs: Any, *, batch_size: int | None = None) -> Any:
            scores = super().score(pairs, batch_size=batch_size)
            scores[-1] += 1e-3
            return scores

    monkeypatch.setattr(compiling, "OpenVINOScorer", Wrong)
    with pytest.raises(CheckpointError, match=r"tiny in f32 gives other scores than torch.* up to 1\.0e-03") as caught:
        _compile(source, tmp_path / "graph")
    assert 'backend="torch"' in str(caught.value.hint)


def test_bf16_that_differs_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` takes f32 then; who asks for bf16 itself hears why there is none."""
    source = checkpoints.cross_encoder(tmp_path / "source")
    monkeypatch.setattr(compiling, "native_precisions", lambda: ("f32", "bf16"))
    monkeypatch.setattr(compiling, "keeps_promise", lambda parity: parity.precision == "f32")
    _compile(source, tmp_path / "graph", "auto")
    assert np.abs(_graph(source, tmp_path / "graph").score(PAIRS) - _theirs(source)).max() < 1e-5
    with pytest.raises(CheckpointError, match="in bf16 gives other scores"):
        _compile(source, tmp_path / "other", "bf16")


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_whole_numbers(tmp_path: Path, precision: Precision) -> None:
    """There are no quantized cross-encoders."""
    with pytest.raises(UnsupportedModelError, match=f"no {precision} graph"):
        _compile(checkpoints.cross_encoder(tmp_path / "source"), tmp_path / "graph", precision)


def test_a_graph_is_not_compiled_again() -> None:
    """The model itself is."""
    with pytest.raises(UnsupportedModelError, match="cannot be compiled again"):
        OpenVINOScorer(Checkpoint.read(compiled.cross_encoder().folder), model_kwargs={}).traceable()
