"""Every difference of `HuggingFaceEmbeddings`, shown on both sides where that needs no network."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import langchain_huggingface
import numpy as np
import pytest
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from support import checkpoints
from support.spies import watch
from support.tables import Table

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import (
    CheckpointError,
    EngineError,
    IncompleteModelError,
    InputError,
    ModelNotFoundError,
    UninitializedWeightsError,
    UnsafeModelError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = Table("differences.md", "HuggingFaceEmbeddings")


def ours(folder: Path, **fields: Any) -> HuggingFaceEmbeddings:
    """The embeddings of a model in a folder, here."""
    return HuggingFaceEmbeddings(model_name=str(folder), **fields)


def theirs(folder: Path, **fields: Any) -> langchain_huggingface.HuggingFaceEmbeddings:
    """The same in langchain-huggingface."""
    return langchain_huggingface.HuggingFaceEmbeddings(model_name=str(folder), **fields)


def vectors(folder: Path, texts: list[str], **settings: Any) -> list[list[float]]:
    """What sentence-transformers gives for these texts, without any prompt."""
    return SentenceTransformer(str(folder), device="cpu").encode(texts, prompt="", **settings).tolist()


def close_to(first: Any, second: Any) -> bool:
    """Whether no number differs by more than 1e-6."""
    return bool(np.allclose(first, second, rtol=0, atol=1e-6))


def test_each_row_has_one_test() -> None:
    """The page and this module list the same differences, in the same order, each once."""
    TABLE.check()


@TABLE.row("a model that is not on this machine")
def test_missing_model() -> None:
    """Nothing is downloaded; the guard on the network proves it."""
    with pytest.raises(ModelNotFoundError, match=r"(?s)Looked in:.*hint:.*localhf pull org/missing"):
        HuggingFaceEmbeddings(model_name="org/missing")


@TABLE.row("a path with a typing error")
def test_typo(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path that is not there is an error that names the nearest folder."""
    monkeypatch.chdir(tiny.parent)
    with pytest.raises(ModelNotFoundError, match="did you mean 'tiny'"):
        HuggingFaceEmbeddings(model_name="./tny")


@TABLE.row("the revision")
def test_revision(tiny: Path, tmp_path: Path) -> None:
    """A name with `@revision` means what `model_kwargs["revision"]` means."""
    repository = tmp_path / "models--org--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    tiny.rename(repository / "snapshots" / commit)
    by_name = HuggingFaceEmbeddings(model_name="org/tiny@v1", cache_folder=str(tmp_path))
    by_setting = HuggingFaceEmbeddings(
        model_name="org/tiny", cache_folder=str(tmp_path), model_kwargs={"revision": "v1"}
    )
    assert by_name.embed_query("a city") == by_setting.embed_query("a city")


@TABLE.row("weights that the checkpoint lacks")
def test_fresh_weights(tiny: Path) -> None:
    """There, two objects give two vectors for one text; here there is none of them."""
    lost = "encoder.layer.1.output.dense.weight"
    checkpoints.edit_weights(tiny, lambda tensors: {name: t for name, t in tensors.items() if name != lost})
    assert not close_to(theirs(tiny).embed_query("a city"), theirs(tiny).embed_query("a city"))
    with pytest.raises(UninitializedWeightsError) as caught:
        ours(tiny)
    assert any(lost in name for name in caught.value.missing)


@TABLE.row("weights as a Python pickle")
def test_pickle_weights(tiny: Path) -> None:
    """A pickle is refused before anything reads it."""
    (tiny / "model.safetensors").unlink()
    (tiny / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(UnsafeModelError, match=r"pytorch_model\.bin"):
        ours(tiny)


@TABLE.row("a model without `modules.json`")
def test_pooling(tmp_path: Path) -> None:
    """There it is silently mean pooling; here the user states it."""
    folder = checkpoints.plain(tmp_path / "plain")
    with pytest.raises(IncompleteModelError, match=r"modules\.json"):
        ours(folder)
    assert close_to(theirs(folder).embed_query("a city"), ours(folder, pooling="mean").embed_query("a city"))


@TABLE.row("prompts that the model was saved with")
def test_saved_prompts(tmp_path: Path) -> None:
    """There both kinds of texts go in bare; here each gets its prompt."""
    folder = checkpoints.sentence_transformer(tmp_path / "model", prompts={"query": "one: ", "document": "two: "})
    bare, query, document = vectors(folder, ["a city", "one: a city", "two: a city"])
    assert close_to(theirs(folder).embed_query("a city"), bare)
    assert close_to(theirs(folder).embed_documents(["a city"]), [bare])
    assert close_to(ours(folder).embed_query("a city"), query)
    assert close_to(ours(folder).embed_documents(["a city"]), [document])


@TABLE.row("a document prompt that was saved as `passage` or `corpus`")
def test_saved_passage_prompt(tmp_path: Path) -> None:
    """There, and in sentence-transformers' own `encode_document`, it does not apply; here it does."""
    folder = checkpoints.sentence_transformer(tmp_path / "model", prompts={"passage": "two: "})
    bare, document = vectors(folder, ["a city", "two: a city"])
    assert close_to(SentenceTransformer(str(folder), device="cpu").encode_document("a city"), bare)
    assert close_to(theirs(folder).embed_documents(["a city"]), [bare])
    assert close_to(ours(folder).embed_documents(["a city"]), [document])


@TABLE.row("newlines in a text")
def test_newlines(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the model never sees them."""
    made = [make(tiny) for make in (theirs, ours)]
    calls = watch(monkeypatch, "encode")
    for embeddings in made:
        embeddings.embed_documents(["a\ncity"])
    assert calls.inputs == ["a city", "a\ncity"]


@TABLE.row("`query_encode_kwargs`")
def test_query_encode_kwargs(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a setting for queries takes away the others."""
    fields = {"encode_kwargs": {"normalize_embeddings": True}, "query_encode_kwargs": {"batch_size": 1}}
    made = [make(tiny, **fields) for make in (theirs, ours)]
    calls = watch(monkeypatch, "encode")
    for embeddings in made:
        embeddings.embed_query("a city")
    assert [call.get("normalize_embeddings", False) for call in calls.settings] == [False, True]


@TABLE.row("`query_instruction`, `embed_instruction`")
def test_instructions(tiny: Path) -> None:
    """Instructions are prompts of the user's own."""
    fields = {"query_instruction": "one: ", "embed_instruction": "two: "}
    with pytest.raises(ValidationError):
        theirs(tiny, **fields)
    query, document = vectors(tiny, ["one: a city", "two: a city"])
    assert close_to(ours(tiny, **fields).embed_query("a city"), query)
    assert close_to(ours(tiny, **fields).embed_documents(["a city"]), [document])


class _Pools:
    """Stands in for the pools of sentence-transformers, which take seconds to start; the work is done right here."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        patch.setattr(SentenceTransformer, "start_multi_process_pool", self._start)
        patch.setattr(SentenceTransformer, "stop_multi_process_pool", self._stop)
        patch.setattr(SentenceTransformer, "encode", _without_pool(SentenceTransformer.encode))

    def _start(self, *_: Any) -> dict[str, Any]:
        self.events.append("start")
        return {"input": None, "output": None, "processes": []}

    def _stop(self, *_: Any) -> None:
        self.events.append("stop")


def _without_pool(encode: Callable[..., Any]) -> Callable[..., Any]:
    def encode_here(model: SentenceTransformer, *inputs: Any, pool: object = None, **settings: Any) -> Any:
        return encode(model, *inputs, **settings)

    return encode_here


@TABLE.row("`multi_process` and `encode_kwargs`")
@pytest.mark.filterwarnings("ignore:The `encode_multi_process` method has been deprecated")
def test_multi_process_settings(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the vectors come back in full length, as if nothing had been set."""
    _Pools(monkeypatch)
    fields = {"multi_process": True, "encode_kwargs": {"truncate_dim": 8}}
    lengths = [len(make(tiny, **fields).embed_documents(["a city"])[0]) for make in (theirs, ours)]
    assert lengths == [checkpoints.DIMENSION, 8]


@TABLE.row("the pool of `multi_process`")
@pytest.mark.filterwarnings("ignore:The `encode_multi_process` method has been deprecated")
def test_one_pool(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There each call starts a pool and stops it; here it stops with `close()`."""
    pools = _Pools(monkeypatch)
    for make, events in ((theirs, ["start", "stop"] * 2), (ours, ["start"])):
        pools.events.clear()
        embeddings = make(tiny, multi_process=True)
        embeddings.embed_documents(["a city"])
        embeddings.embed_documents(["a river"])
        assert pools.events == events
    embeddings.close()
    assert pools.events == ["start", "stop"]


@TABLE.row("texts in a batch, if `batch_size` is not set")
def test_batches(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a long text shares its batch with 31 others, whatever their length."""
    made = [make(tiny) for make in (theirs, ours)]
    calls = watch(monkeypatch, "encode")
    texts = [" ".join(["a city"] * 40) + f" {number}" for number in range(64)]
    there, here = (embeddings.embed_documents(texts) for embeddings in made)
    assert close_to(there, here)
    first, *rest = calls.settings
    assert "batch_size" not in first
    assert [settings["batch_size"] for settings in rest] == [32, 32]  # of 64 tokens each


@TABLE.row("`precision` `int8` and `uint8`")
@pytest.mark.filterwarnings("ignore")
def test_batch_dependent_precision(tiny: Path) -> None:
    """There a text's vector depends on its neighbours."""
    fields = {"encode_kwargs": {"precision": "int8"}}
    there = theirs(tiny, **fields)
    assert there.embed_documents(["a city", "a river", "red"])[0] != there.embed_documents(["a city", "blue"])[0]
    with pytest.raises(InputError, match="int8"):
        ours(tiny, **fields)


@TABLE.row("`precision` `binary` and `ubinary`")
def test_binary_precision(tiny: Path) -> None:
    """The numbers are the same, the types are not."""
    fields = {"encode_kwargs": {"precision": "ubinary"}}
    there, here = (make(tiny, **fields).embed_query("a city") for make in (theirs, ours))
    assert there == here
    assert (type(there[0]), type(here[0])) == (int, float)


@TABLE.row("a text that stands in a batch twice")
def test_duplicates(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors come back in each place all the same."""
    made = [make(tiny) for make in (theirs, ours)]
    calls = watch(monkeypatch, "encode")
    there, here = (embeddings.embed_documents(["a city", "a city"]) for embeddings in made)
    assert calls.inputs == ["a city"] * 3
    assert close_to(there, here)


@TABLE.row("two objects with equal settings")
def test_shared_model(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There each object has a model of its own."""
    calls = watch(monkeypatch, "__init__")
    for make, loads in ((theirs, 2), (ours, 1)):
        calls.settings.clear()
        made = [make(tiny), make(tiny)]
        assert (len(calls.settings), len(made)) == (loads, 2)


@TABLE.row("`show_progress_bar` in `encode_kwargs`")
def test_progress_bar_setting(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It shows a bar without `show_progress`."""
    fields = {"encode_kwargs": {"show_progress_bar": True}}
    with pytest.raises(TypeError, match="show_progress_bar"):
        theirs(tiny, **fields).embed_query("a city")
    here = ours(tiny, **fields)
    capfd.readouterr()
    here.embed_query("a city")
    assert "100%" in capfd.readouterr().err


@TABLE.row("a string in place of the list of texts")
def test_string_for_list(tiny: Path) -> None:
    """There a string gives a vector for each of its letters."""
    assert len(theirs(tiny).embed_documents("city")) == 4  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not str"):
        ours(tiny).embed_documents("city")


@TABLE.row("an item that is no text")
def test_no_text(tiny: Path) -> None:
    """The error names the item."""
    with pytest.raises(AttributeError):
        theirs(tiny).embed_documents(["a city", None])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"texts\[1\] is NoneType"):
        ours(tiny).embed_documents(["a city", None])  # type: ignore[list-item]


@TABLE.row("a vector with a NaN")
def test_nan(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There it would be stored."""
    made = [make(tiny) for make in (theirs, ours)]
    monkeypatch.setattr(
        SentenceTransformer, "encode", lambda self, *args, **settings: np.full((1, checkpoints.DIMENSION), np.nan)
    )
    assert np.isnan(made[0].embed_query("a city")).all()
    with pytest.raises(CheckpointError, match=r"no finite vector for texts\[0\]"):
        made[1].embed_query("a city")


@TABLE.row("the model's fields after construction")
def test_frozen_fields(tiny: Path) -> None:
    """There an object can name a model that it does not use."""
    there = theirs(tiny)
    there.model_name = "another"
    assert there.embed_query("a city")
    with pytest.raises(ValidationError, match="frozen"):
        ours(tiny).model_name = "another"


@TABLE.row("a pickle of the object")
def test_pickled_object(tiny: Path) -> None:
    """There it is as large as the model."""
    there, here = (len(pickle.dumps(make(tiny))) for make in (theirs, ours))
    weights = (tiny / "model.safetensors").stat().st_size
    assert there > weights > 10 * here


@TABLE.row("`backend` other than `torch` and `openvino`")
@pytest.mark.parametrize("backend", ["ipex", "onnx"])
def test_backends(tiny: Path, backend: str) -> None:
    """It is refused by its name, before anything is loaded."""
    with pytest.raises(UnsupportedModelError, match=f"backend='{backend}'"):
        ours(tiny, model_kwargs={"backend": backend})


@TABLE.row("the memory of a model")
def test_close(tiny: Path) -> None:
    """After `close()` the object says that it was closed."""
    assert not hasattr(theirs(tiny), "close")
    here = ours(tiny)
    here.close()
    with pytest.raises(EngineError, match="was closed"):
        here.embed_query("a city")


@TABLE.row("what identifies a vector")
def test_identity(tiny: Path) -> None:
    """The object says which vectors it makes."""
    here = ours(tiny)
    assert (len(here.fingerprint), here.dimension, here.max_seq_length) == (64, checkpoints.DIMENSION, 64)
    assert not hasattr(theirs(tiny), "fingerprint")


@TABLE.row("the model inside")
def test_no_client(tiny: Path) -> None:
    """There is no attribute through which one holder could change the model of the others."""
    assert isinstance(theirs(tiny)._client, SentenceTransformer)
    assert not hasattr(ours(tiny), "_client")
