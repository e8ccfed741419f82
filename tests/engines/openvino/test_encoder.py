"""The OpenVINO encoder: torch's vectors, whatever the batch, the thread and the settings, and no torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support import checkpoints, compiled

from langchain_localhf import HuggingFaceEmbeddings, provisioning
from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines.openvino.encoder import OpenVINOEncoder
from langchain_localhf.engines.torch.encoder import TorchEncoder
from langchain_localhf.errors import CheckpointError, DeviceUnavailableError, InputError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TEXTS = [
    "a",
    "",
    "The ships sail out of the harbour at dawn.",
    "  two leading spaces, and\ttabs\nand lines  ",
    "東京は日本の首都です。",
    "Привет 😀 e\u0301",
    "word " * 300,
    "river " * 80,
    "A second sentence that is about as long as the first.",
]


def vectors(embeddings: HuggingFaceEmbeddings, texts: list[str] = TEXTS) -> NDArray[np.float64]:
    """The vectors of documents."""
    return np.array(embeddings.embed_documents(texts))


@pytest.fixture(scope="module")
def exact() -> HuggingFaceEmbeddings:
    """The real MiniLM as a graph in f32."""
    return HuggingFaceEmbeddings(model_name=str(compiled.minilm().folder), backend="openvino")


@pytest.fixture(scope="module")
def torch_vectors() -> NDArray[np.float64]:
    """What torch gives for the texts."""
    return vectors(HuggingFaceEmbeddings(model_name=str(compiled.minilm().folder), backend="torch"))


def test_vectors_are_those_of_torch(exact: HuggingFaceEmbeddings, torch_vectors: NDArray[np.float64]) -> None:
    """Of every length and script, to the sixth digit."""
    assert np.abs(vectors(exact) - torch_vectors).max() < 1e-6
    assert np.sum(vectors(exact) * torch_vectors, axis=1).min() > 0.99999


def test_a_text_has_one_vector(exact: HuggingFaceEmbeddings) -> None:
    """Alone, in any batch, in any order, from any thread."""
    together = vectors(exact)
    alone = np.array([exact.embed_documents([text])[0] for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-6
    assert np.abs(vectors(exact, TEXTS[::-1])[::-1] - together).max() < 1e-6
    for size in (1, 2, 5):
        other = HuggingFaceEmbeddings(
            model_name=exact.model_name, backend="openvino", encode_kwargs={"batch_size": size}
        )
        assert np.abs(vectors(other) - together).max() < 1e-6


def test_many_threads_share_one_graph(exact: HuggingFaceEmbeddings) -> None:
    """More callers than requests, each with several batches, all at once."""
    texts = [f"{text} {i}" for i in range(12) for text in TEXTS[:6]]
    right = vectors(exact, texts)
    start = threading.Barrier(8)

    def embed(place: int) -> float:
        start.wait()
        mine = texts[place:] + texts[:place]
        found = vectors(exact, mine)
        return float(np.abs(np.roll(found, place, axis=0) - right).max())

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(embed, range(8))) < 1e-6


def test_half_precision_is_near(torch_vectors: NDArray[np.float64]) -> None:
    """bf16, which OpenVINO calculates in only where the processor does, keeps its promise."""
    half = HuggingFaceEmbeddings(
        model_name=str(compiled.minilm().folder),
        backend="openvino",
        model_kwargs={"ov_config": {"INFERENCE_PRECISION_HINT": "bf16"}},
    )
    assert np.sum(vectors(half) * torch_vectors, axis=1).min() > 0.9995


@pytest.mark.parametrize("family", ["sentence_transformer", "with_dense", "routed", "with_own_code"])
def test_every_kind_of_model(family: str, tmp_path: Path) -> None:
    """Other modules, a router with two ways, and code of its own: all of it is in the graph."""
    folder = getattr(checkpoints, family)(tmp_path / "source")
    trusted = family == "with_own_code"
    provisioning.add(folder, "org/model", trust_remote_code=trusted)
    provisioning.compile_model("org/model", precision="f32", trust_remote_code=trusted)
    graph = HuggingFaceEmbeddings(model_name="org/model", backend="openvino")
    torch = HuggingFaceEmbeddings(
        model_name="org/model", backend="torch", model_kwargs={"device": "cpu", "trust_remote_code": trusted}
    )
    assert np.abs(vectors(graph) - vectors(torch)).max() < 1e-5
    assert np.abs(np.array(graph.embed_query("a query")) - torch.embed_query("a query")).max() < 1e-5
    assert graph.fingerprint == torch.fingerprint


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"normalize_embeddings": True}),
    ({}, {"truncate_dim": 8, "normalize_embeddings": True}),
    ({"truncate_dim": 8}, {}),
    ({"truncate_dim": 8}, {"truncate_dim": 4}),
    ({}, {"prompt": "passage: "}),
    ({"prompts": {"document": "d: ", "query": "q: ", "code": "c: "}}, {}),
    ({"prompts": {"document": "d: ", "query": "q: ", "code": "c: "}}, {"prompt_name": "code"}),
    ({}, {"precision": "binary"}),
    ({}, {"precision": "ubinary"}),
]


@pytest.mark.parametrize(("model_kwargs", "encode_kwargs"), SETTINGS)
def test_settings_mean_what_they_mean_in_torch(
    tmp_path: Path, model_kwargs: dict[str, Any], encode_kwargs: dict[str, Any]
) -> None:
    """Prompts, truncation, normalisation and packed bits, for documents and for queries."""
    checkpoint, folder = tiny_graph(tmp_path)
    graph = OpenVINOEncoder(checkpoint, model_kwargs=model_kwargs, folder=folder)
    torch = TorchEncoder(checkpoint, name="tiny", pooling=None, model_kwargs={"device": "cpu", **model_kwargs})
    for kind in ("document", "query"):
        found = graph.encode(TEXTS, kind=kind, encode_kwargs=encode_kwargs)
        right = torch.encode(TEXTS, kind=kind, encode_kwargs=encode_kwargs)
        assert found.dtype == right.dtype
        assert np.abs(found.astype(float) - right).max() < 1e-5


def tiny_graph(tmp_path: Path) -> tuple[Checkpoint, Path]:
    """A tiny model and the folder of its graph, to change at will."""
    folder = shutil.copytree(compiled.tiny().folder, tmp_path / "tiny")
    return Checkpoint.read(folder), folder / "openvino"


def test_settings_that_a_graph_does_not_have(exact: HuggingFaceEmbeddings) -> None:
    """Each is refused by name, and nothing is ignored."""
    for encode_kwargs in ({"task": "x"}, {"output_value": None}, {"precision": "int4"}, {"prompt_name": "nope"}):
        other = HuggingFaceEmbeddings(model_name=exact.model_name, backend="openvino")
        other.encode_kwargs = encode_kwargs
        with pytest.raises(InputError):
            other.embed_query("a")


@pytest.mark.parametrize(
    ("ov_config", "named"),
    [
        ({"NOPE": "1"}, "NOPE"),
        ({"PERFORMANCE_HINT": "FAST"}, "PERFORMANCE_HINT"),
        ({"NUM_STREAMS": "x"}, "NUM_STREAMS"),
    ],
)
def test_unknown_settings_of_openvino(tmp_path: Path, ov_config: dict[str, str], named: str) -> None:
    """OpenVINO's own words, without the places in its source."""
    checkpoint, folder = tiny_graph(tmp_path)
    with pytest.raises(InputError, match=named) as caught:
        OpenVINOEncoder(checkpoint, model_kwargs={"ov_config": ov_config}, folder=folder)
    assert ".cpp" not in str(caught.value)


@pytest.mark.parametrize("ov_config", [{"PERFORMANCE_HINT": "THROUGHPUT"}, {"NUM_STREAMS": "2"}, {"CACHE_DIR": ""}])
def test_known_settings_of_openvino(tmp_path: Path, ov_config: dict[str, str]) -> None:
    """They reach it as they are, nested as sentence-transformers has them, too; no vector changes."""
    checkpoint, folder = tiny_graph(tmp_path)
    plain = OpenVINOEncoder(checkpoint, model_kwargs={}, folder=folder)
    for model_kwargs in ({"ov_config": ov_config}, {"model_kwargs": {"ov_config": ov_config, "device": "CPU"}}):
        graph = OpenVINOEncoder(checkpoint, model_kwargs=model_kwargs, folder=folder)
        assert np.abs(graph.probe_vectors - plain.probe_vectors).max() < 1e-6


@pytest.mark.parametrize("device", ["FOO", "cuda", "NPU.7", "AUTO:CPU,FOO"])
def test_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    """The error says which devices there are."""
    checkpoint, folder = tiny_graph(tmp_path)
    with pytest.raises(DeviceUnavailableError, match="OpenVINO sees CPU"):
        OpenVINOEncoder(checkpoint, model_kwargs={"device": device}, folder=folder)


@pytest.mark.parametrize("device", ["CPU", "cpu", "AUTO:CPU"])
def test_devices(tmp_path: Path, device: str) -> None:
    """The CPU as torch spells it, too, and OpenVINO's virtual devices."""
    checkpoint, folder = tiny_graph(tmp_path)
    assert OpenVINOEncoder(checkpoint, model_kwargs={"device": device}, folder=folder).dimension == 32


@pytest.mark.parametrize("name", ["graph.json", "tokenizer.json", "model.xml"])
def test_damaged_graph(tmp_path: Path, name: str) -> None:
    """Named, with the command that makes it anew."""
    checkpoint, folder = tiny_graph(tmp_path)
    (folder / name).write_text("{")
    (folder / "model.blob").unlink()  # a program that fits makes up for a graph that cannot be read
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        OpenVINOEncoder(checkpoint, model_kwargs={}, folder=folder)
    assert "localhf compile" in str(caught.value)


def test_a_graph_is_not_compiled_again(tmp_path: Path) -> None:
    """It is the model that is compiled."""
    checkpoint, folder = tiny_graph(tmp_path)
    with pytest.raises(UnsupportedModelError):
        OpenVINOEncoder(checkpoint, model_kwargs={}, folder=folder).traceable()


def test_progress_and_processes(exact: HuggingFaceEmbeddings, capfd: pytest.CaptureFixture[str]) -> None:
    """A progress bar comes if it is asked for; more processes change nothing."""
    other = HuggingFaceEmbeddings(
        model_name=exact.model_name, backend="openvino", show_progress=True, multi_process=True
    )
    assert vectors(other, TEXTS[:3]).shape == (3, 384)
    assert "Embedding" in capfd.readouterr().err


def test_no_framework_is_imported() -> None:
    """The whole way from a name to a vector needs neither torch nor transformers, nor the hub's library."""
    program = f"""
import sys
from langchain_localhf import HuggingFaceEmbeddings
embeddings = HuggingFaceEmbeddings(model_name={str(compiled.minilm().folder)!r})
assert len(embeddings.embed_query("hello")) == 384
heavy = {{"torch", "transformers", "sentence_transformers", "huggingface_hub", "onnxruntime", "nncf"}}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - this Python
    assert done.stdout == "[]\n"
