"""The cross-encoder: sentence-transformers' scores, as floats, in order; and a clear refusal of everything else."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import pickle
import shutil
import time
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sentence_transformers import CrossEncoder
from support import checkpoints, community, compiled, language_models

from langchain_localhf import HuggingFaceCrossEncoder, provisioning
from langchain_localhf.engines.openvino.scorer import OpenVINOScorer
from langchain_localhf.engines.torch.scorer import TorchScorer
from langchain_localhf.errors import (
    CheckpointError,
    EngineError,
    InputError,
    ModelNotFoundError,
    ModelReferenceError,
    UninitializedWeightsError,
    UnsafeModelError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAIRS = [
    ("a red ship", "sails at dawn"),
    ("tax", "the harbour " * 50),
    ("", "one"),
    ("tax", ""),
    ("https://127.0.0.1:9/a.png", "/etc/hostname.jpg"),
    ("Straße 東京 🚢", "winter\nsummer"),
    *(("where is the river", "river " * length) for length in range(1, 30, 4)),
]
CPU = {"device": "cpu"}


def make(folder: Path, **fields: Any) -> HuggingFaceCrossEncoder:
    """The cross-encoder in a folder, in torch."""
    return HuggingFaceCrossEncoder(**{"model_name": str(folder), "model_kwargs": CPU, **fields})


def sentence_transformers_scores(folder: Path, pairs: list[tuple[str, str]] = PAIRS) -> np.ndarray:
    """What sentence-transformers itself gives for these pairs."""
    return np.asarray(CrossEncoder(str(folder), device="cpu", local_files_only=True).predict(pairs))


def close_to(ours: list[float], theirs: Any) -> bool:
    """Whether no score differs by more than 1e-5."""
    return bool(np.abs(np.array(ours) - theirs).max() < 1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with one label; do not change it."""
    return checkpoints.cross_encoder(tmp_path_factory.mktemp("cross-encoder") / "tiny")


@pytest.fixture(scope="module")
def shared(folder: Path) -> HuggingFaceCrossEncoder:
    """The same, loaded once for the tests that only score; do not close it."""
    return make(folder)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A plain cross-encoder to change at will."""
    return checkpoints.classifier(tmp_path / "changed")


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[tuple[str, str]], int]]:
    """The pairs and the batch size of each call that reaches sentence-transformers, which does its work."""
    real, calls = CrossEncoder.predict, []

    def predict(self: CrossEncoder, inputs: Any, **settings: Any) -> Any:
        calls.append((list(inputs), settings["batch_size"]))
        return real(self, inputs, **settings)

    monkeypatch.setattr(CrossEncoder, "predict", predict)
    return calls


class TestScores:
    """Which scores come out."""

    @pytest.mark.parametrize("labels", [1, 2])
    @pytest.mark.parametrize(("backend", "engine"), [("torch", TorchScorer), ("openvino", OpenVINOScorer)])
    def test_parity(self, monkeypatch: pytest.MonkeyPatch, backend: str, engine: type, labels: int) -> None:
        """Those of sentence-transformers and of langchain_community, on either engine; of two labels, the second."""
        stored = compiled.cross_encoder(labels)
        monkeypatch.setenv("LOCALHF_HOME", str(stored.folder.parents[1]))
        ours = HuggingFaceCrossEncoder(model="org/tiny-cross-encoder", backend=backend, model_kwargs=CPU)
        assert isinstance(ours._model.scorer, engine)
        scores = ours.score(PAIRS)
        predicted = sentence_transformers_scores(stored.folder)
        assert close_to(scores, predicted if labels == 1 else predicted[:, 1])
        assert close_to(scores, list(community.cross_encoder(stored.folder).score(PAIRS)))
        assert len(set(np.round(scores, 4))) > len(PAIRS) // 2, "a model that says the same of all would prove nothing"

    def test_floats_in_a_list(self, shared: HuggingFaceCrossEncoder) -> None:
        """LangChain promises a list of floats, not an array and not a `map`."""
        scores = shared.score(PAIRS)
        assert isinstance(scores, list)
        assert {type(score) for score in scores} == {float}

    def test_equal_pairs_are_scored_once(
        self, shared: HuggingFaceCrossEncoder, predicted: list[tuple[list[tuple[str, str]], int]]
    ) -> None:
        """Each place gets the score of its pair; two texts in the other order are another pair."""
        first, second = ("a ship", "a river"), ("a river", "a ship")
        scores = shared.score([first, second, first, first])
        assert scores == [scores[0], scores[1], scores[0], scores[0]]
        assert scores[0] != scores[1]
        assert sorted(pair for pairs, _ in predicted for pair in pairs) == sorted([first, second])

    def test_batch_size(self, folder: Path, predicted: list[tuple[list[tuple[str, str]], int]]) -> None:
        """It reaches the engine, can be changed, and changes no score."""
        cross_encoder = make(folder, batch_size=3)
        predicted.clear()
        scores = cross_encoder.score(PAIRS)
        assert [size for _, size in predicted] == [3]
        cross_encoder.batch_size = None
        assert close_to(cross_encoder.score(PAIRS), scores)

    @pytest.mark.parametrize("collect", [tuple, iter, deque, lambda pairs: (list(pair) for pair in pairs)])
    def test_other_collections(self, shared: HuggingFaceCrossEncoder, collect: Any) -> None:
        """Tuples and generators, of lists of two too, give the scores of the list."""
        assert shared.score(collect(PAIRS)) == shared.score(PAIRS)

    def test_no_pairs(self, shared: HuggingFaceCrossEncoder) -> None:
        """No pairs, no scores."""
        assert shared.score([]) == []

    @given(pairs=st.lists(st.tuples(st.text(max_size=30), st.text(max_size=90)), min_size=1, max_size=8))
    @settings(max_examples=25, deadline=None)
    def test_any_texts(self, shared: HuggingFaceCrossEncoder, pairs: list[tuple[str, str]]) -> None:
        """However pairs are put together, each gets the score that sentence-transformers gives it alone."""
        alone = [float(shared._model.scorer._model.predict([pair])[0]) for pair in pairs]  # type: ignore[attr-defined]
        assert close_to(shared.score(pairs), alone)

    async def test_async(self, shared: HuggingFaceCrossEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
        """`ascore` gives the same, and the event loop runs other tasks meanwhile."""
        real, expected, ticks = CrossEncoder.predict, shared.score(PAIRS), []

        def slow(self: CrossEncoder, *arguments: Any, **settings: Any) -> Any:
            time.sleep(0.3)
            return real(self, *arguments, **settings)

        async def tick() -> None:
            while True:
                ticks.append(time.monotonic())
                await asyncio.sleep(0.01)

        monkeypatch.setattr(CrossEncoder, "predict", slow)
        ticking = asyncio.create_task(tick())
        assert await shared.ascore(PAIRS) == expected
        ticking.cancel()
        assert max(later - earlier for earlier, later in itertools.pairwise(ticks)) < 0.25

    def test_threads(self, shared: HuggingFaceCrossEncoder) -> None:
        """Eight threads get what one gets."""
        turned = [PAIRS[start:] + PAIRS[:start] for start in range(8)]
        alone = [shared.score(pairs) for pairs in turned]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(shared.score, turned)) == alone

    def test_the_models_own_activation_function(self, folder: Path, shared: HuggingFaceCrossEncoder) -> None:
        """It is applied, here a sigmoid; another one can be given as to `CrossEncoder(...)`."""
        raw = make(folder, model_kwargs={**CPU, "activation_fn": torch.nn.Identity()}).score(PAIRS)
        assert close_to(shared.score(PAIRS), 1 / (1 + np.exp(-np.array(raw))))

    def test_max_seq_length(self, folder: Path, shared: HuggingFaceCrossEncoder) -> None:
        """What is behind it changes no score."""
        assert shared.max_seq_length == 64
        long = ["a river " * repeats for repeats in (200, 300)]
        first, second = shared.score([("a ship", text) for text in long])
        assert first == pytest.approx(second, abs=1e-6)
        assert make(folder, model_kwargs={**CPU, "max_length": 16}).max_seq_length == 16


SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "num_labels": 1,
}
DECODER = {"num_key_value_heads": 2, "head_dim": 8}
ARCHITECTURES = [
    ("DebertaV2ForSequenceClassification", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    ("ModernBertForSequenceClassification", {"local_attention": 8}),
    ("Qwen3ForSequenceClassification", DECODER),
]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by DeBERTa in transformers 5.3
@pytest.mark.parametrize(("name", "sizes"), ARCHITECTURES, ids=["deberta", "modernbert", "qwen3"])
def test_rerankers_of_other_kinds(tmp_path: Path, name: str, sizes: dict[str, Any]) -> None:
    """Those of mxbai, gte and Qwen3 give sentence-transformers' scores too, in torch and as a graph."""
    architecture = getattr(transformers, name)
    torch.manual_seed(0)
    words = checkpoints.tokenizer() if sizes is not DECODER else copy.deepcopy(language_models.tokenizer())
    words.pad_token = words.pad_token or words.eos_token
    ids = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("pad", "cls", "sep", "bos", "eos")}
    config = architecture.config_class(vocab_size=len(words), **SIZES, **sizes, **ids)
    architecture(config).save_pretrained(tmp_path / "source")
    words.save_pretrained(tmp_path / "source")
    provisioning.compile_model(provisioning.add(tmp_path / "source", "org/reranker"), precision="f32")
    theirs = sentence_transformers_scores(tmp_path / "source")
    for backend in ("torch", "openvino"):
        ours = HuggingFaceCrossEncoder(model="org/reranker", backend=backend, model_kwargs=CPU)
        assert close_to(ours.score(PAIRS), theirs)


class TestLabels:
    """Models that give a pair several scores."""

    NAMES = ("contradiction", "entailment", "neutral")

    @pytest.fixture
    def classifier(self, tmp_path: Path) -> Path:
        """A model that says how one sentence follows from another."""
        folder = checkpoints.cross_encoder(tmp_path / "classifier", labels=3)
        names = {str(place): name for place, name in enumerate(self.NAMES)}
        checkpoints.edit_json(folder / "config.json", id2label=names)
        return folder

    def test_somebody_has_to_say_which(self, classifier: Path) -> None:
        """The error names them all."""
        with pytest.raises(InputError, match="gives each pair 3 scores") as caught:
            make(classifier)
        assert all(repr(name) in str(caught.value.hint) for name in self.NAMES)

    @pytest.mark.parametrize("place", range(3))
    def test_by_place_and_by_name(self, classifier: Path, place: int) -> None:
        """Both give the scores of that label."""
        theirs = sentence_transformers_scores(classifier)[:, place]
        assert close_to(make(classifier, label=place).score(PAIRS), theirs)
        assert close_to(make(classifier, label=self.NAMES[place]).score(PAIRS), theirs)

    def test_the_first_of_two(self, tmp_path: Path) -> None:
        """A model that has them the other way round can be told."""
        folder = checkpoints.classifier(tmp_path / "two", labels=2)
        theirs = sentence_transformers_scores(folder)
        assert close_to(make(folder, label=0).score(PAIRS), theirs[:, 0])
        assert close_to(make(folder).score(PAIRS), theirs[:, 1])

    @pytest.mark.parametrize("label", [3, -1, "relevant"])
    def test_no_such_label(self, classifier: Path, label: int | str) -> None:
        """It is refused before anything is scored."""
        with pytest.raises(InputError, match=f"has no label {label!r}") as caught:
            make(classifier, label=label)
        assert "'entailment'" in str(caught.value.hint)

    def test_a_config_without_names(self, classifier: Path) -> None:
        """The places stand for them; so they do where the names are none."""
        checkpoints.edit_json(classifier / "config.json", id2label=None, label2id=None, num_labels=3)
        with pytest.raises(InputError) as caught:
            make(classifier)
        assert "'0', '1', '2'" in str(caught.value.hint)


class TestInputs:
    """What is no list of pairs of texts."""

    @pytest.mark.parametrize("pairs", ["ab", b"bytes", None, 3, {"a": "b"}])
    def test_no_list(self, shared: HuggingFaceCrossEncoder, pairs: Any) -> None:
        """A text, a number, None or a dictionary in place of the list is refused."""
        with pytest.raises(InputError, match=f"a list of pairs of texts, not {type(pairs).__name__}") as caught:
            shared.score(pairs)
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("item", "what"),
        [
            ("ab", "str"),  # two letters are no pair
            (("a", "b", "c"), "tuple of 3"),
            (["a"], "list of 1"),
            ((), "tuple of 0"),
            (None, "NoneType"),
            ({"a", "b"}, "set"),
            ({"a": "b"}, "dict"),
        ],
    )
    def test_no_pair(self, shared: HuggingFaceCrossEncoder, item: Any, what: str) -> None:
        """The error names its index; so it does for one pair that is not in a list."""
        with pytest.raises(InputError, match=rf"text_pairs\[1\] is {what}; expected a pair of texts") as caught:
            shared.score([("a", "b"), item])
        assert caught.value.index == 1

    @pytest.mark.parametrize("item", [None, 3, b"bytes", ["a"], {"text": "a"}])
    @pytest.mark.parametrize("side", [0, 1])
    def test_no_text(self, shared: HuggingFaceCrossEncoder, item: Any, side: int) -> None:
        """The error names the pair and the side of it."""
        pair = (item, "a") if side == 0 else ("a", item)
        with pytest.raises(InputError, match=rf"text_pairs\[2\]\[{side}\] is {type(item).__name__}") as caught:
            shared.score([("a", "b"), ("c", "d"), pair])
        assert caught.value.index == 2

    def test_lone_surrogate(self, shared: HuggingFaceCrossEncoder) -> None:
        """Half a character is refused; the hint repairs it."""
        with pytest.raises(InputError, match=r"text_pairs\[1\]\[1\] holds a lone surrogate at position 2") as caught:
            shared.score([("a", "b"), ("c", "d \ud83d")])
        assert caught.value.index == 1
        assert "surrogatepass" in str(caught.value.hint)

    def test_a_score_that_is_no_number(self, changed: Path) -> None:
        """A model that overflows on a word is not believed, and the error names the pair."""
        checkpoints.edit_weights(changed, checkpoints.overflowing("river"))
        with pytest.raises(CheckpointError, match=r"no finite score for text_pairs\[2\]") as caught:
            make(changed).score([("a", "b"), ("a", "b"), ("a", "river")])
        assert "float32" in str(caught.value.hint)


class TestRefused:
    """What is no cross-encoder, or would be a random one."""

    def test_a_fresh_classifier(self, changed: Path) -> None:
        """It would be another one in every object."""
        checkpoints.edit_weights(changed, checkpoints.without("classifier."))
        with pytest.raises(UninitializedWeightsError, match=r"classifier\.weight"):
            make(changed)

    @pytest.mark.parametrize("build", [checkpoints.plain, checkpoints.sentence_transformer])
    def test_models_without_a_classifier(self, tmp_path: Path, build: Callable[[Path], Path]) -> None:
        """An encoder is refused by its kind."""
        with pytest.raises(UnsupportedModelError, match="is no cross-encoder"):
            make(build(tmp_path / "encoder"))

    def test_pickle(self, changed: Path) -> None:
        """Nothing reads it."""
        (changed / "model.safetensors").rename(changed / "pytorch_model.bin")
        with pytest.raises(UnsafeModelError, match=r"pytorch_model\.bin"):
            make(changed)

    def test_unknown_engine(self, folder: Path) -> None:
        """The error names those that there are."""
        with pytest.raises(UnsupportedModelError, match="'onnx'"):
            make(folder, backend="onnx")


class TestNames:
    """How a model is named."""

    def test_the_default(self) -> None:
        """It is langchain_community's; as nothing is downloaded, the error says how to bring it here."""
        with pytest.raises(ModelNotFoundError, match=r"localhf pull BAAI/bge-reranker-base$"):
            HuggingFaceCrossEncoder()

    @pytest.mark.parametrize("repository", ["cross-encoder/tiny", "sentence-transformers/tiny", "tiny"])
    def test_a_bare_name_of_the_store(self, folder: Path, repository: str) -> None:
        """It is found where sentence-transformers would look, and where `localhf add --as tiny` puts it."""
        provisioning.add(folder, repository)
        found = HuggingFaceCrossEncoder(model_name="tiny", model_kwargs=CPU)._model.model.name
        assert found == (repository if "/" in repository else "sentence-transformers/tiny")

    def test_a_bare_name_that_two_have(self, folder: Path, tiny: Path) -> None:
        """A cross-encoder is meant, not the embedding model of the same name."""
        provisioning.add(tiny, "sentence-transformers/stsb-roberta-base")
        provisioning.add(folder, "cross-encoder/stsb-roberta-base")
        cross_encoder = HuggingFaceCrossEncoder(model_name="stsb-roberta-base", model_kwargs=CPU)
        assert cross_encoder._model.model.name == "cross-encoder/stsb-roberta-base"

    def test_a_bare_name_of_a_cache(self, folder: Path, tmp_path: Path) -> None:
        """So it is in a Hugging Face cache; with a revision, too."""
        checkpoints.hub_cache(tmp_path, "cross-encoder/tiny", folder)
        for name in ("tiny", "tiny@main"):
            cached = HuggingFaceCrossEncoder(model=name, cache_folder=str(tmp_path), model_kwargs=CPU)
            assert cached.score(PAIRS) == make(folder).score(PAIRS)

    @pytest.mark.parametrize("revision", ["", "@v1"])
    def test_a_bare_name_that_is_not_here(self, revision: str) -> None:
        """The command brings the cross-encoder, whose organisation `pull` would not guess."""
        name = "ms-marco-MiniLM-L6-v2"
        with pytest.raises(ModelNotFoundError, match=rf"localhf pull cross-encoder/{name}{revision}$") as caught:
            HuggingFaceCrossEncoder(model_name=f"{name}{revision}")
        assert any("cross-encoder" in place for place in caught.value.looked_in)

    @pytest.mark.parametrize(
        ("name", "error"), [("no such name", ModelReferenceError), ("org/missing", ModelNotFoundError)]
    )
    @pytest.mark.parametrize(
        "construct", [lambda f: HuggingFaceCrossEncoder(**f), HuggingFaceCrossEncoder.model_validate]
    )
    def test_errors_keep_their_class(self, construct: Any, name: str, error: type[Exception]) -> None:
        """They are not wrapped in pydantic's, whichever way an object is made."""
        with pytest.raises(error) as caught:
            construct({"model": name})
        assert type(caught.value) is error


class TestFields:
    """Which settings there are."""

    def test_fields_of_langchain_community(self) -> None:
        """Each is there with its default, but for `client`, which nobody sets."""
        ours = HuggingFaceCrossEncoder.model_fields
        for name, field in community.cross_encoder_class().model_fields.items():
            if name != "client":
                assert ours[name].get_default(call_default_factory=True) == field.get_default(call_default_factory=True)

    @pytest.mark.parametrize("fields", [{"batchsize": 3}, {"batch_size": 0}, {"label": 1.5}, {"model_kwargs": None}])
    def test_what_cannot_be(self, folder: Path, fields: dict[str, Any]) -> None:
        """A misspelt field or a value of another type is pydantic's error, before anything is loaded."""
        with pytest.raises(ValidationError, match=next(iter(fields))):
            make(folder, **fields)

    @pytest.mark.parametrize("name", ["model_name", "cache_folder", "model_kwargs", "backend", "label"])
    def test_what_loaded_the_model_is_frozen(self, shared: HuggingFaceCrossEncoder, name: str) -> None:
        """A change would not reach the model."""
        with pytest.raises(ValidationError, match="frozen"):
            setattr(shared, name, None)

    def test_the_users_settings_stay_as_they_were(self, folder: Path) -> None:
        """What reaches the model is a copy."""
        model_kwargs = {**CPU, "model_kwargs": {"attn_implementation": "eager"}}
        written = copy.deepcopy(model_kwargs)
        assert make(folder, model_kwargs=model_kwargs).model_kwargs == model_kwargs == written

    def test_repr_and_dump_show_the_settings_only(self, shared: HuggingFaceCrossEncoder) -> None:
        """`repr` shows no weights; a dump makes an equal object."""
        assert len(repr(shared)) < 300 + len(shared.model_name)
        assert HuggingFaceCrossEncoder(**shared.model_dump()) == shared


class TestSharing:
    """One model for many."""

    def test_equal_settings_share_one_model(self, folder: Path, shared: HuggingFaceCrossEncoder) -> None:
        """However they score; other settings of the model have another one."""
        assert make(folder, batch_size=2)._model is shared._model
        assert make(folder, model_kwargs={**CPU, "max_length": 8})._model is not shared._model

    @pytest.mark.parametrize(
        "duplicate",
        [copy.copy, copy.deepcopy, lambda one: one.model_copy(), lambda one: one.model_copy(deep=True)],
        ids=["copy", "deepcopy", "model_copy", "model_copy deep"],
    )
    def test_copies(self, folder: Path, duplicate: Any) -> None:
        """A copy shares the model, and works on when the original is closed."""
        original = make(folder)
        other, expected = duplicate(original), original.score(PAIRS)
        assert other == original
        assert other._model is original._model
        original.close()
        assert other.score(PAIRS) == expected

    def test_a_copy_with_another_model(self, folder: Path, changed: Path) -> None:
        """It never keeps the old model under a new name, and its fields are checked."""
        original = make(folder, batch_size=2)
        checkpoints.edit_weights(changed, lambda tensors: {name: tensor * 1.5 for name, tensor in tensors.items()})
        other = original.model_copy(update={"model_name": str(changed)}, deep=True)
        assert (other.batch_size, other.model_kwargs) == (2, CPU)
        assert other.score(PAIRS) == make(changed, batch_size=2).score(PAIRS)
        with pytest.raises(InputError, match="has no label 4"):
            original.model_copy(update={"label": 4})

    def test_pickle(self, folder: Path, tmp_path: Path) -> None:
        """It holds the settings and no weights, and loads the model where it is unpickled."""
        source = shutil.copytree(folder, tmp_path / "source")
        original = make(source, batch_size=5)
        data, expected = pickle.dumps(original), original.score(PAIRS)
        original.close()
        again = pickle.loads(data)
        assert len(data) < 2000
        assert again.batch_size == 5
        assert close_to(again.score(PAIRS), expected)
        again.close()
        shutil.rmtree(source)
        with pytest.raises(ModelNotFoundError):
            pickle.loads(data)

    def test_close(self, folder: Path) -> None:
        """Whatever needs the model says that it was closed; others who share it work on."""
        closed, other = make(folder), make(folder)
        closed.close()
        closed.close()
        for use in (lambda: closed.score(PAIRS), lambda: closed.score([]), lambda: closed.max_seq_length):
            with pytest.raises(EngineError, match="was closed"):
                use()
        assert len(other.score(PAIRS)) == len(PAIRS)

    def test_memory_is_given_back(self, changed: Path) -> None:
        """When the last object that shares a model is closed, the model is gone."""
        first, second = make(changed), make(changed)
        model = weakref.ref(first._model.scorer._model)  # type: ignore[attr-defined]
        first.close()
        gc.collect()
        assert model() is not None
        second.close()
        gc.collect()  # the modules of torch refer to each other
        assert model() is None
