"""Pairs of texts to scores with sentence-transformers."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from support import checkpoints, language_models
from support.checkpoints import edit_json, edit_weights, renamed, without
from support.network import network_events
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines import open_scorer
from langchain_localhf.engines.base import PROBE_PAIRS
from langchain_localhf.engines.torch import scorer as scorers
from langchain_localhf.engines.torch.scorer import TorchScorer
from langchain_localhf.errors import (
    CheckpointError,
    DeviceUnavailableError,
    InputError,
    UninitializedWeightsError,
    UnsafeModelError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Of many lengths: nothing, a word, and more than the model reads, on both sides.
PAIRS = [
    ("a red ship sails at dawn", "the harbour"),
    ("tax", "the quarterly report: tax filings are due"),
    ("", ""),
    ("tax", ""),
    ("winter " * 100, "summer"),
    ("winter", "summer city " * 100),
    ("river " * 60, "bridge " * 60),
    ("What is a ship?", "A ship sails."),
    *((f"query {i}", "model " * i) for i in range(1, 40, 3)),
]

MODELS = [
    (checkpoints.classifier, 1),
    (checkpoints.classifier, 3),
    (checkpoints.roberta_classifier, 1),
    (checkpoints.roberta_classifier, 3),
    (checkpoints.cross_encoder, 1),
    (checkpoints.cross_encoder, 3),
]


def _open(folder: Path, name: str = "tiny", **model_kwargs: Any) -> TorchScorer:
    return TorchScorer(Checkpoint.read(folder), name=name, model_kwargs={"device": "cpu", **model_kwargs})


def _theirs(folder: Path, **settings: Any) -> np.ndarray:
    return np.asarray(CrossEncoder(str(folder), device="cpu", local_files_only=True, **settings).predict(PAIRS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder; do not change it."""
    return checkpoints.cross_encoder(tmp_path_factory.mktemp("scorer") / "tiny")


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A plain cross-encoder to change at will."""
    return checkpoints.classifier(tmp_path / "changed")


class TestScores:
    """The same scores as sentence-transformers gives."""

    @pytest.mark.parametrize(("make", "labels"), MODELS)
    def test_a_model(self, tmp_path: Path, make: Callable[..., Path], labels: int) -> None:
        """All together, in small batches and one by one; one score a pair, or one a label."""
        scorer, theirs = _open(make(tmp_path / "model", labels=labels)), _theirs(tmp_path / "model")
        assert scorer.score(PAIRS).shape == theirs.shape
        assert scorer.score(PAIRS).dtype == np.float32
        assert np.abs(scorer.score(PAIRS) - theirs).max() < 1e-5
        assert np.abs(scorer.score(PAIRS, batch_size=3) - theirs).max() < 1e-5
        assert np.abs(np.concatenate([scorer.score([pair]) for pair in PAIRS]) - theirs).max() < 1e-5
        assert (scorer.labels, scorer.max_seq_length, scorer.unused_weights) == (labels, 64, ())
        assert np.ptp(theirs) > 0.1  # scores that are all the same would be equal for no good reason

    def test_probe_scores_are_those_of_the_probe_pairs(self, folder: Path) -> None:
        """After the activation function, as all others."""
        scorer = _open(folder)
        assert np.allclose(scorer.probe_scores, scorer.score(PROBE_PAIRS), atol=1e-6)
        assert np.all((scorer.probe_scores > 0) & (scorer.probe_scores < 1))

    def test_threads(self, folder: Path) -> None:
        """Many threads get what one gets, whatever the others ask."""
        scorer = _open(folder)
        alone = scorer.score(PAIRS)
        with ThreadPoolExecutor(8) as pool:
            turned = pool.map(lambda start: scorer.score(PAIRS[start:] + PAIRS[:start]), range(len(PAIRS)))
            for start, scores in enumerate(turned):
                assert np.abs(np.roll(scores, start) - alone).max() < 1e-5

    @pytest.mark.parametrize(
        "changes",
        [
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"},
        ],
    )
    def test_the_activation_function_of_the_config(self, changed: Path, changes: dict[str, Any]) -> None:
        """Stated in its new way and in its old one."""
        plain = _open(changed).score(PAIRS)
        edit_json(changed / "config.json", **changes)
        assert np.abs(_open(changed).score(PAIRS) - _theirs(changed)).max() < 1e-5
        assert np.abs(_open(changed).score(PAIRS) - plain).max() > 0.01

    @pytest.mark.parametrize(
        "settings",
        [
            {"activation_fn": torch.nn.Tanh()},
            {"max_length": 16},
            {"prompts": {"red": "red "}, "default_prompt_name": "red"},
        ],
    )
    def test_settings_pass_through(self, folder: Path, settings: dict[str, Any]) -> None:
        """What `CrossEncoder(...)` takes has the effect that it has there."""
        scores = _open(folder, **settings).score(PAIRS)
        assert np.abs(scores - _theirs(folder, **settings)).max() < 1e-5
        assert np.abs(scores - _open(folder).score(PAIRS)).max() > 1e-3

    def test_more_tokens_than_the_model_has_places_for(self, folder: Path) -> None:
        """Said when it is loaded, and not by the first long pair, as the library does."""
        with pytest.raises(RuntimeError, match="size of tensor"):
            _theirs(folder, max_length=100)
        with pytest.raises(InputError, match="max_length=100 tokens"):
            _open(folder, max_length=100)

    def test_a_saved_prompt_applies(self, tmp_path: Path) -> None:
        """It comes before the first text of a pair."""
        folder = checkpoints.cross_encoder(tmp_path / "prompted", prompts={"red": "red "})
        scores = _open(folder).score([("ship", "harbour")])
        expected = _open(folder, default_prompt_name=None, prompts={"red": ""}).score([("red ship", "harbour")])
        assert np.allclose(scores, expected, atol=1e-6)

    def test_a_language_model_inside(self, tmp_path: Path) -> None:
        """A reranker that answers yes or no scores as any other; only a graph cannot."""
        source = language_models.copy("qwen2", tmp_path / "source")
        edit_json(source / "tokenizer_config.json", pad_token="<|endoftext|>")  # noqa: S106 - of the vocabulary
        modules = [Transformer(str(source), transformer_task="text-generation"), LogitScore(5, 6)]
        CrossEncoder(modules=modules, device="cpu").save_pretrained(str(tmp_path / "model"), create_model_card=False)
        scorer = _open(tmp_path / "model")
        assert np.abs(scorer.score(PAIRS) - _theirs(tmp_path / "model")).max() < 1e-5
        with pytest.raises(UnsupportedModelError, match="a language model's answer") as caught:
            scorer.traceable()
        assert 'backend="torch"' in str(caught.value.hint)

    def test_no_limit(self, folder: Path) -> None:
        """It is written as a very large number."""
        scorer = _open(folder, processor_kwargs={"model_max_length": 10**30})
        assert scorer.max_seq_length is None
        assert scorer.score(PAIRS[:2]).shape == (2,)

    def test_a_text_that_looks_like_an_address(self, folder: Path) -> None:
        """It is a text as any other."""
        assert np.isfinite(_open(folder).score([("https://127.0.0.1:9/a.png", "/etc/hostname.jpg")])).all()


class TestRefused:
    """What cannot be loaded soundly, or not here."""

    @pytest.mark.parametrize("part", ["classifier.weight", "classifier.bias", "bert.pooler.dense.weight"])
    def test_missing_weights(self, changed: Path, part: str) -> None:
        """Each of them would be random, and every score with it."""
        edit_weights(changed, without(part))
        with pytest.raises(UninitializedWeightsError) as caught:
            _open(changed)
        assert any(name.endswith(part) for name in caught.value.missing)

    def test_a_fresh_classifier_that_no_file_admits_to(self, tmp_path: Path) -> None:
        """A config that names a classifier does not bring one."""
        folder = checkpoints.plain(tmp_path / "plain")
        edit_json(folder / "config.json", architectures=["BertForSequenceClassification"])
        Checkpoint.read(folder).require_scorer()
        with pytest.raises(UninitializedWeightsError, match=r"classifier\.bias, .*classifier\.weight"):
            _open(folder)

    def test_a_sigmoid_hides_no_random_weights(self, changed: Path) -> None:
        """Scores that are all 1, whatever the last bias is, prove nothing about it."""
        edit_weights(changed, lambda tensors: tensors | {"classifier.weight": tensors["classifier.weight"] * 1e6})
        edit_weights(changed, without("classifier.bias"))
        with pytest.raises(UninitializedWeightsError, match=r"classifier\.bias"):
            _open(changed)

    def test_a_classifier_for_another_number_of_labels(self, changed: Path) -> None:
        """Its shape does not fit, so that it would be random."""
        with pytest.raises(UninitializedWeightsError, match="another shape"):
            _open(changed, num_labels=3)

    def test_weights_under_another_name(self, changed: Path) -> None:
        """They are left over, and the model's own would be random."""
        edit_weights(changed, renamed("classifier.", "score."))
        with pytest.raises(UninitializedWeightsError, match="classifier"):
            _open(changed)

    def test_weights_that_are_no_numbers(self, changed: Path) -> None:
        """They are found before anything is scored."""
        edit_weights(changed, lambda tensors: tensors | {"classifier.bias": torch.tensor([float("nan")])})
        with pytest.raises(CheckpointError, match=r"classifier\.bias .*not finite"):
            _open(changed)

    @pytest.mark.parametrize("make", [checkpoints.sentence_transformer, checkpoints.plain])
    def test_models_of_another_kind(self, tmp_path: Path, make: Callable[[Path], Path]) -> None:
        """An embedding model and a plain transformer have no classifier; sentence-transformers would make one up."""
        with pytest.raises(UnsupportedModelError, match="is no cross-encoder") as caught:
            Checkpoint.read(make(tmp_path / "model")).require_scorer()
        assert caught.value.hint

    @pytest.mark.parametrize("make", [checkpoints.classifier, checkpoints.cross_encoder])
    def test_a_cross_encoder_is_nothing_else(self, tmp_path: Path, make: Callable[[Path], Path]) -> None:
        """Neither an embedding model, whatever pooling is stated, nor a language model."""
        checkpoint = Checkpoint.read(make(tmp_path / "model"))
        checkpoint.require_scorer()
        for refuse in (
            checkpoint.require_encoder,
            lambda: checkpoint.require_encoder(pooling="mean"),
            checkpoint.require_language_model,
        ):
            with pytest.raises(UnsupportedModelError, match="is a cross-encoder") as caught:
                refuse()
            assert caught.value.hint

    @pytest.mark.parametrize("known", [{}, {"pad_token": "<pad>"}], ids=["nowhere", "to the tokenizer only"])
    def test_no_padding_token(self, tmp_path: Path, known: dict[str, str]) -> None:
        """A language model that became a classifier may name none; the settings of the hint make it run."""
        folder = tmp_path / "decoder"
        words = copy.deepcopy(language_models.tokenizer())
        words.add_special_tokens(known)
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
        config = Qwen2Config(vocab_size=len(words), num_labels=1, num_key_value_heads=2, **sizes)
        Qwen2ForSequenceClassification(config).save_pretrained(folder)
        words.save_pretrained(folder)
        with pytest.raises(CheckpointError, match="names no padding token") as caught:
            _open(folder)
        named = {"config_kwargs": {"pad_token_id": 3}, "processor_kwargs": {"pad_token": "<pad>"}}
        assert all(name in str(caught.value.hint) for name in named)
        assert np.abs(_open(folder, **named).score(PAIRS) - _theirs(folder, **named)).max() < 1e-5

    def test_pickle_that_lies_beside_the_weights(self, folder: Path) -> None:
        """The user cannot ask for it by accident either."""
        with pytest.raises(UnsafeModelError, match="use_safetensors=False"):
            _open(folder, model_kwargs={"use_safetensors": False})

    def test_a_device_that_is_not_here(self, folder: Path) -> None:
        """It is refused before anything is loaded."""
        with pytest.raises(DeviceUnavailableError, match="no device 'cuda:99'"):
            _open(folder, device="cuda:99")

    def test_an_activation_function_from_elsewhere(self, changed: Path) -> None:
        """sentence-transformers would silently take a sigmoid in its place; with trust, it is imported."""
        edit_json(changed / "config.json", sentence_transformers={"activation_fn": "support.activations.Doubled"})
        checkpoint = Checkpoint.read(changed)
        with pytest.raises(UnsafeModelError, match=r"config\.json names .*support\.activations\.Doubled"):
            checkpoint.require_trust()
        checkpoint.require_trust(trust_remote_code=True)
        assert (
            np.abs(_open(changed, trust_remote_code=True).score(PAIRS) - _theirs(changed, trust_remote_code=True)).max()
            < 1e-5
        )
        assert _open(changed, trust_remote_code=True).score(PAIRS).max() > 1

    def test_own_code_without_trust(self, changed: Path) -> None:
        """Code for the classifier is what a cross-encoder runs, and is not run unasked."""
        code = {"AutoModelForSequenceClassification": "modeling_own.OwnModel"}
        edit_json(changed / "config.json", auto_map=code)
        with pytest.raises(UnsafeModelError, match=r"modeling_own\.OwnModel"):
            Checkpoint.read(changed).require_trust()
        with pytest.raises(UnsafeModelError, match=r"modeling_own\.OwnModel"):
            _open(changed)

    def test_too_little_memory_is_no_fault_of_the_model(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error of torch itself passes through."""

        def out_of_memory(*arguments: Any, **settings: Any) -> None:
            raise torch.OutOfMemoryError

        monkeypatch.setattr(scorers, "CrossEncoder", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            _open(folder)

    def test_settings_that_cannot_be(self, folder: Path) -> None:
        """What the library refuses is an error that names the settings."""
        with pytest.raises(CheckpointError, match="cannot be loaded") as caught:
            _open(folder, default_prompt_name="missing")
        assert "model_kwargs" in str(caught.value.hint)

    def test_an_unknown_engine(self, folder: Path) -> None:
        """The error names those that there are."""
        with pytest.raises(UnsupportedModelError, match="torch"):
            open_scorer(Checkpoint.read(folder), name="tiny", model_kwargs={}, backend="onnx")


class TestTrusted:
    """Code that comes with the model, and is trusted."""

    def test_a_classifier_of_its_own(self, changed: Path) -> None:
        """It runs, its weights are accounted for, and its scores are the code's."""
        plain = _open(changed).score(PAIRS)
        edit_json(changed / "config.json", auto_map={"AutoModelForSequenceClassification": "modeling_own.OwnModel"})
        (changed / "modeling_own.py").write_text(
            "from transformers import BertForSequenceClassification\n\n"
            "class OwnModel(BertForSequenceClassification):\n"
            "    def forward(self, **inputs):\n"
            "        result = super().forward(**inputs)\n"
            "        result.logits = -result.logits\n"
            "        return result\n"
        )
        assert np.abs(_open(changed, trust_remote_code=True).score(PAIRS) - (1 - plain)).max() < 1e-5
        edit_weights(changed, without("classifier.bias"))
        with pytest.raises(UninitializedWeightsError, match=r"classifier\.bias"):
            _open(changed, trust_remote_code=True)


def test_nothing_is_connected_or_resolved(folder: Path) -> None:
    """A process that loads and scores connects nowhere, though its environment invites it to."""
    script = """
from langchain_localhf.loading import load_scorer
load_scorer(sys.argv[1], backend="torch").scorer.score([("a city", "https://127.0.0.1:9/picture.png")] * 3)
"""
    assert network_events(script, str(folder)) == []
