"""One model for many: threads, async callers, copies, pickles, and the end of it all."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import pickle
import re
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from support import checkpoints
from support.spies import watch

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import EngineError, InputError, ModelNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [" ".join(checkpoints.WORDS[start : start + 1 + start % 7]) for start in range(20)]


def make(folder: Path, **fields: Any) -> HuggingFaceEmbeddings:
    """The embeddings of a model in a folder."""
    return HuggingFaceEmbeddings(model_name=str(folder), **fields)


class TestThreads:
    """Many callers at once."""

    def test_threads_get_the_serial_vectors(self, tiny: Path) -> None:
        """Sixteen threads that share a model get exactly the vectors that one caller gets."""
        embeddings = make(tiny)
        batches = [[*TEXTS[start:], f"{start} red"] for start in range(16)]
        serial = [embeddings.embed_documents(batch) for batch in batches]
        barrier = threading.Barrier(16)

        def embed(batch: list[str]) -> list[list[float]]:
            barrier.wait()
            return embeddings.embed_documents(batch)

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(embed, batches)) == serial

    def test_threads_that_load_get_one_model(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Objects that are made in several threads at once load the model once."""
        calls = watch(monkeypatch, "__init__")
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: make(tiny), range(4)))
        assert len(calls.settings) == 1
        assert made[0] == made[3]

    def test_async_methods_leave_the_event_loop_free(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """While a long call runs, the event loop runs other tasks; the vectors are those of the plain methods."""
        embeddings = make(tiny)
        real = SentenceTransformer.encode
        ticks: list[float] = []

        def slow(self: SentenceTransformer, *args: Any, **kwargs: Any) -> Any:
            time.sleep(0.3)
            return real(self, *args, **kwargs)

        async def tick() -> None:
            while True:
                ticks.append(time.monotonic())
                await asyncio.sleep(0.01)

        async def embed() -> tuple[list[list[float]], list[float]]:
            ticking = asyncio.create_task(tick())
            documents = await embeddings.aembed_documents(TEXTS)
            query = await embeddings.aembed_query(TEXTS[0])
            ticking.cancel()
            return documents, query

        expected = embeddings.embed_documents(TEXTS), embeddings.embed_query(TEXTS[0])
        monkeypatch.setattr(SentenceTransformer, "encode", slow)
        assert asyncio.run(embed()) == expected
        longest_pause = max(later - earlier for earlier, later in itertools.pairwise(ticks))
        assert longest_pause < 0.25
        assert len(ticks) > 10


class TestSharing:
    """Who shares a model with whom."""

    def test_equal_settings_share_one_model(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Objects with equal settings of the model share it, however they encode."""
        calls = watch(monkeypatch, "__init__")
        first = make(tiny, model_kwargs={"device": "cpu"})
        second = make(tiny, model_kwargs={"device": "cpu"}, encode_kwargs={"batch_size": 1}, show_progress=True)
        assert first._model is second._model
        assert len(calls.settings) == 1

    @pytest.mark.parametrize(
        "fields", [{"model_kwargs": {"truncate_dim": 8}}, {"model_kwargs": {"prompts": {"query": "q"}}}]
    )
    def test_other_settings_load_another_model(self, tiny: Path, fields: dict[str, Any]) -> None:
        """Other settings of the model never reach an object that did not ask for them."""
        plain, other = make(tiny), make(tiny, **fields)
        assert plain._model is not other._model
        assert len(plain.embed_query("a city")) == checkpoints.DIMENSION

    def test_changed_files_load_anew(self, tiny: Path) -> None:
        """When the model's files change, the next object sees the new ones, and the old object keeps its own."""
        old = make(tiny)
        before = old.embed_query("a city")
        checkpoints.edit_weights(tiny, lambda tensors: {name: tensor * 1.5 for name, tensor in tensors.items()})
        assert make(tiny).embed_query("a city") != before
        assert old.embed_query("a city") == before


class TestCopies:
    """Copies and pickles."""

    @pytest.mark.parametrize(
        "duplicate",
        [copy.copy, copy.deepcopy, lambda one: one.model_copy(), lambda one: one.model_copy(deep=True)],
        ids=["copy", "deepcopy", "model_copy", "model_copy deep"],
    )
    def test_copies_share_the_model(self, tiny: Path, duplicate: Any) -> None:
        """A copy is equal and shares the model; it works on when the original is closed."""
        embeddings = make(tiny, encode_kwargs={"truncate_dim": 8})
        expected = embeddings.embed_query("a city")
        other = duplicate(embeddings)
        assert other == embeddings
        assert other._model is embeddings._model
        embeddings.close()
        assert other.embed_query("a city") == expected

    def test_deep_copy_has_its_own_settings(self, tiny: Path) -> None:
        """A deep copy's dictionaries are its own."""
        embeddings = make(tiny, encode_kwargs={"processing_kwargs": {"text": {"max_length": 8}}})
        other = embeddings.model_copy(update={"show_progress": True}, deep=True)
        other.encode_kwargs["processing_kwargs"]["text"]["max_length"] = 4
        assert embeddings.encode_kwargs["processing_kwargs"]["text"]["max_length"] == 8

    def test_pickle_loads_the_model_again(self, tiny: Path) -> None:
        """A pickle holds the settings and no weights; what comes out of it gives equal vectors."""
        embeddings = make(tiny, embed_instruction="red: ")
        data = pickle.dumps(embeddings)
        expected, fingerprint = embeddings.embed_documents(TEXTS), embeddings.fingerprint
        embeddings.close()
        again = pickle.loads(data)
        assert len(data) < 3000
        assert np.allclose(again.embed_documents(TEXTS), expected, rtol=0, atol=1e-6)
        assert again.fingerprint == fingerprint

    def test_pickle_of_a_model_that_is_gone(self, tiny: Path) -> None:
        """Where the model is not, unpickling says so."""
        embeddings = make(tiny)
        data = pickle.dumps(embeddings)
        shutil.rmtree(tiny)
        with pytest.raises(ModelNotFoundError, match=re.escape(str(tiny))):
            pickle.loads(data)

    def test_model_copy_with_another_model_loads_it(self, tiny: Path, tmp_path: Path) -> None:
        """A changed copy never keeps the old model under a new name, and its fields are validated."""
        embeddings = make(tiny, encode_kwargs={"truncate_dim": 8})
        other = checkpoints.sentence_transformer(tmp_path / "other")
        checkpoints.edit_weights(other, lambda tensors: {name: tensor * 1.5 for name, tensor in tensors.items()})
        changed = embeddings.model_copy(update={"model_name": str(other)})
        assert changed.embed_query("a city") == make(other, encode_kwargs={"truncate_dim": 8}).embed_query("a city")
        assert changed.embed_query("a city") != embeddings.embed_query("a city")
        with pytest.raises(InputError, match="int8"):
            embeddings.model_copy(update={"encode_kwargs": {"precision": "int8"}})


class TestClose:
    """What `close()` gives back."""

    def test_use_after_close(self, tiny: Path) -> None:
        """Whatever needs the model says that it was closed; closing twice is no error."""
        embeddings = make(tiny)
        embeddings.close()
        embeddings.close()
        for use in (
            lambda: embeddings.embed_documents(["a city"]),
            lambda: embeddings.embed_documents([]),
            lambda: embeddings.embed_query("a city"),
            lambda: embeddings.fingerprint,
            lambda: embeddings.dimension,
            lambda: embeddings.max_seq_length,
        ):
            with pytest.raises(EngineError, match="was closed"):
                use()
        assert make(tiny).embed_query("a city")

    def test_other_holders_are_unaffected(self, tiny: Path) -> None:
        """An object that shares the model works on."""
        first, second = make(tiny), make(tiny)
        expected = first.embed_query("a city")
        first.close()
        assert second.embed_query("a city") == expected

    def test_memory_is_given_back(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the last object that shares a model is closed, the model and its weights are gone."""
        born: list[weakref.ref[SentenceTransformer]] = []
        real = SentenceTransformer.__init__

        def born_now(self: SentenceTransformer, *args: Any, **kwargs: Any) -> None:
            real(self, *args, **kwargs)
            born.append(weakref.ref(self))

        monkeypatch.setattr(SentenceTransformer, "__init__", born_now)
        first, second = make(tiny), make(tiny)
        first.embed_documents(TEXTS)
        first.close()
        gc.collect()
        assert [reference() is None for reference in born] == [False]
        second.close()
        gc.collect()  # the modules of torch refer to each other
        assert [reference() is None for reference in born] == [True]


class TestProgress:
    """What is written to stderr."""

    @pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]], ids=["many", "one"])
    def test_one_bar_a_call(self, tiny: Path, capfd: pytest.CaptureFixture[str], texts: list[str]) -> None:
        """`show_progress` shows one bar for a call, however many batches it has."""
        embeddings = make(tiny, show_progress=True, encode_kwargs={"batch_size": 2})
        capfd.readouterr()
        embeddings.embed_documents(texts)
        shown = capfd.readouterr()
        assert shown.out == ""
        assert (shown.err.count(" 0%|"), shown.err.count("\n")) == (1, 1), "bars begun, bars ended"

    def test_none_by_default(self, tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Without it a call writes nothing; nor does a property with it."""
        embeddings = make(tiny)
        shown_for_calls = make(tiny, show_progress=True, encode_kwargs={"show_progress_bar": True})
        capfd.readouterr()
        embeddings.embed_documents(TEXTS)
        embeddings.embed_query("a city")
        assert shown_for_calls.dimension == checkpoints.DIMENSION
        assert capfd.readouterr() == ("", "")

    def test_encode_kwargs_have_the_last_word(self, tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """`encode_kwargs["show_progress_bar"]` works too, and wins."""
        embeddings = make(tiny, show_progress=True, encode_kwargs={"show_progress_bar": False})
        capfd.readouterr()
        embeddings.embed_documents(TEXTS)
        assert capfd.readouterr().err == ""


def test_pool_of_processes(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`multi_process` keeps every encode kwarg, gives the same vectors, and keeps one pool until `close`."""
    real = SentenceTransformer.start_multi_process_pool
    pools: list[Any] = []

    def small_pool(self: SentenceTransformer, target_devices: list[str] | None = None) -> Any:
        pools.append(real(self, ["cpu"]))
        return pools[-1]

    monkeypatch.setattr(SentenceTransformer, "start_multi_process_pool", small_pool)
    encode_kwargs = {"prompt": "red: ", "truncate_dim": 8, "normalize_embeddings": True, "batch_size": 4}
    single = make(tiny, encode_kwargs=encode_kwargs)
    several = make(tiny, encode_kwargs=encode_kwargs, multi_process=True)
    assert (several.dimension, pools) == (8, []), "a property needs no processes"
    assert np.allclose(several.embed_documents(TEXTS), single.embed_documents(TEXTS), rtol=0, atol=1e-6)
    assert np.allclose(several.embed_query("a city"), single.embed_query("a city"), rtol=0, atol=1e-6)
    (process,) = pools[0]["processes"]
    assert (len(pools), process.is_alive()) == (1, True)
    single.close()
    several.close()
    gc.collect()
    with pytest.raises(ValueError, match="closed"):
        process.is_alive()
