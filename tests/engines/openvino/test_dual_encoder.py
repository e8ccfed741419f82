"""Dual encoders as compiled graphs: torch's vectors of texts and of images, and no torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support import compiled, dual_encoders

from langchain_localhf import CLIPEmbeddings, HuggingFaceEmbeddings, provisioning
from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines import open_encoder
from langchain_localhf.engines.images import prepared
from langchain_localhf.engines.openvino.encoder import OpenVINOEncoder
from langchain_localhf.engines.openvino.settings import GraphSettings
from langchain_localhf.errors import CheckpointError, InputError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from langchain_localhf.engines.base import Encoder

FAMILIES = ["clip", "siglip", "st_clip", "st_clip_saved_anew"]
# One has more tokens than any of the models reads.
TEXTS = [
    "a",
    "",
    "the ship sails on the river",
    "river " * 40,
    "winter " * 300,
    "Привет 😀, 東京",
    "https://example.org/a.png",
]
SHAPES = [(48, 40), (32, 32), (500, 30), (20, 300), (1, 1), (640, 480)]


@cache
def graph(family: str = "clip") -> OpenVINOEncoder:
    """A tiny dual encoder as graphs in f32."""
    return OpenVINOEncoder(Checkpoint.read(compiled.dual_encoder(family).folder), model_kwargs={})


@cache
def in_torch(family: str = "clip") -> Encoder:
    """The same one in torch."""
    checkpoint = Checkpoint.read(compiled.dual_encoder(family).folder)
    return open_encoder(checkpoint, name=family, pooling=None, model_kwargs={"device": "cpu"})


def pixels(count: int = 12) -> NDArray[np.uint8]:
    """Pictures of several shapes, as the tiny models read them."""
    preparation = graph().image_preparation
    assert preparation is not None
    drawn = [dual_encoders.picture(seed, SHAPES[seed % len(SHAPES)]) for seed in range(count)]
    return np.stack([prepared(picture, preparation) for picture in drawn])


def lowest_cosine(found: NDArray[Any], right: NDArray[Any]) -> float:
    """The lowest cosine between rows of the same place."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(right, axis=1)
    return float(np.min(np.sum(found * right, axis=1) / lengths))


@pytest.mark.parametrize("family", FAMILIES)
def test_texts(family: str) -> None:
    """Of any length: what is too long is cut off where torch cuts it, and padded as far as torch pads it."""
    for kind in ("document", "query"):
        found = graph(family).encode(TEXTS, kind=kind, encode_kwargs={})
        right = in_torch(family).encode(TEXTS, kind=kind, encode_kwargs={})
        assert lowest_cosine(found, right) > 0.99999
        assert np.abs(found - right).max() < 1e-5 * np.abs(right).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_images(family: str) -> None:
    """Of any shape."""
    found = graph(family).encode_images(pixels(), encode_kwargs={})
    right = in_torch(family).encode_images(pixels(), encode_kwargs={})
    assert graph(family).image_preparation == in_torch(family).image_preparation
    assert lowest_cosine(found, right) > 0.99999
    assert np.abs(found - right).max() < 1e-5 * np.abs(right).max()


def test_an_image_has_one_vector() -> None:
    """Alone, in any batch, and from many threads, each with more batches than there are requests."""
    images = pixels(40)
    right = graph().encode_images(images, encode_kwargs={})
    for size in (1, 3, 40):
        assert np.abs(graph().encode_images(images, encode_kwargs={"batch_size": size}) - right).max() < 1e-5
    start = threading.Barrier(8)

    def embed(place: int) -> float:
        start.wait()
        found = graph().encode_images(np.roll(images, place, axis=0), encode_kwargs={"batch_size": 4})
        return float(np.abs(np.roll(found, -place, axis=0) - right).max())

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(embed, range(8))) < 1e-5


@pytest.mark.parametrize(
    ("model_kwargs", "encode_kwargs"),
    [
        ({}, {"normalize_embeddings": True}),
        ({"truncate_dim": 8}, {}),
        ({"truncate_dim": 8}, {"truncate_dim": 4, "normalize_embeddings": True}),
        ({}, {"precision": "ubinary"}),
        ({"prompts": {"document": "the "}}, {"prompt": "a picture of "}),
    ],
)
def test_settings_mean_what_they_mean_for_texts(model_kwargs: dict[str, Any], encode_kwargs: dict[str, Any]) -> None:
    """Truncation, normalisation and packed bits; a prompt changes no image."""
    checkpoint = Checkpoint.read(compiled.dual_encoder().folder)
    settings = {"device": "cpu", **model_kwargs}
    found = OpenVINOEncoder(checkpoint, model_kwargs=settings).encode_images(pixels(), encode_kwargs=encode_kwargs)
    torch = open_encoder(checkpoint, name="clip", pooling=None, model_kwargs=settings)
    right = torch.encode_images(pixels(), encode_kwargs=encode_kwargs)
    assert (found.dtype, found.shape) == (right.dtype, right.shape)
    assert np.abs(found.astype(float) - right).max() < 1e-4


def test_settings_that_a_graph_does_not_have() -> None:
    """They are refused by name, as for texts."""
    with pytest.raises(InputError, match="task='x'"):
        graph().encode_images(pixels(1), encode_kwargs={"task": "x"})


def test_images_that_are_not_prepared() -> None:
    """Nothing guesses what they are, and the graph is free for others afterwards."""
    for shape in ((2, 31, 32, 3), (2, 3, 32, 32), (32, 32, 3)):
        with pytest.raises(InputError, match="none that the model reads"):
            graph().encode_images(np.zeros(shape, dtype=np.uint8), encode_kwargs={})
    assert len(graph().encode_images(pixels(2), encode_kwargs={})) == 2


def test_half_precision_is_near() -> None:
    """bf16, which OpenVINO calculates in only where the processor does; sixteen random numbers round far more."""
    settings = {"ov_config": {"INFERENCE_PRECISION_HINT": "bf16"}}
    half = OpenVINOEncoder(Checkpoint.read(compiled.dual_encoder().folder), model_kwargs=settings)
    right = in_torch().encode_images(pixels(), encode_kwargs={})
    assert lowest_cosine(half.encode_images(pixels(), encode_kwargs={}), right) > 0.998


@pytest.mark.parametrize("family", [*FAMILIES, "text_tower"])
def test_tokens_are_counted_as_in_torch(family: str) -> None:
    """All of them, with the special ones, without padding; from many threads, and counting changes no vector."""
    right = in_torch(family).count_tokens(TEXTS)
    limit = graph(family).max_seq_length
    assert limit is not None
    assert min(right) < limit < max(right)
    before = graph(family).encode(TEXTS, kind="document", encode_kwargs={})
    with ThreadPoolExecutor(8) as pool:
        assert all(counts == right for counts in pool.map(graph(family).count_tokens, [TEXTS] * 16))
    assert np.array_equal(graph(family).encode(TEXTS, kind="document", encode_kwargs={}), before)


def test_siglip_pads_every_text() -> None:
    """To the length that it was trained with, and without a mask."""
    settings = GraphSettings.read(compiled.dual_encoder("siglip").folder / "openvino")
    assert (settings.inputs, settings.padded_to) == (("input_ids",), dual_encoders.SIGLIP_TOKENS)
    assert GraphSettings.read(compiled.dual_encoder().folder / "openvino").padded_to is None


def test_model_for_texts_only() -> None:
    """Says so, and what to use."""
    encoder = graph("text_tower")
    assert encoder.image_preparation is None
    with pytest.raises(UnsupportedModelError, match="no images"):
        encoder.encode_images(pixels(1), encode_kwargs={})


def test_graph_is_taken_by_itself() -> None:
    """For texts alone, too; vectors of graph and torch may lie in one collection."""
    folder = str(compiled.dual_encoder().folder)
    texts, torch = HuggingFaceEmbeddings(model_name=folder), HuggingFaceEmbeddings(model_name=folder, backend="torch")
    both = CLIPEmbeddings(model_name=folder)
    assert texts.fingerprint == both.fingerprint == torch.fingerprint
    right = np.array(torch.embed_documents(TEXTS))
    for embeddings in (texts, both):
        assert embeddings._loaded.is_compiled
        assert lowest_cosine(np.array(embeddings.embed_documents(TEXTS)), right) > 0.99999


@pytest.mark.parametrize("name", ["images.xml", "graph.json"])
def test_damaged_graph(tmp_path: Path, name: str) -> None:
    """Named when the model is loaded, and not with the first image."""
    folder = shutil.copytree(compiled.dual_encoder().folder, tmp_path / "clip")
    (folder / "openvino" / name).write_text("{")
    (folder / "openvino" / "images.blob").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        OpenVINOEncoder(Checkpoint.read(folder), model_kwargs={})


PACKED = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
{program}
"""


def run_without(refused: list[str], program: str) -> Any:
    """What a program prints as JSON in a Python that has not these packages."""
    text = PACKED.format(refused=refused, program=program)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)  # noqa: S603 - this Python
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def packed(tmp_path: Path, store_home: Path) -> Path:
    """The folder of a CLIP model without its weights."""
    provisioning.add(dual_encoders.clip(tmp_path / "source"), "org/clip")
    provisioning.compile_model("org/clip", precision="f32")
    return provisioning.pack("org/clip", tmp_path / "image").folder


def test_packed_model_needs_no_torch(packed: Path, tmp_path: Path) -> None:
    """Texts and pictures get torch's vectors where neither torch nor transformers is installed."""
    assert not list(packed.rglob("*.safetensors"))
    paths = [str(tmp_path / f"{seed}.png") for seed in range(5)]
    for seed, path in enumerate(paths):
        dual_encoders.picture(seed, SHAPES[seed]).save(path)
    found = run_without(
        ["torch", "transformers", "sentence_transformers", "huggingface_hub", "nncf"],
        f"""
from langchain_localhf import CLIPEmbeddings
embeddings = CLIPEmbeddings(model_name={str(packed)!r})
json.dump([embeddings.embed_documents({TEXTS!r}), embeddings.embed_image({paths!r})], sys.stdout)
""",
    )
    right = CLIPEmbeddings(model_name="org/clip", backend="torch")
    assert lowest_cosine(np.array(found[0]), np.array(right.embed_documents(TEXTS))) > 0.99999
    assert lowest_cosine(np.array(found[1]), np.array(right.embed_image(paths))) > 0.99999


def test_texts_need_no_pillow(packed: Path) -> None:
    """Only images do, and the error says how to get it."""
    said = run_without(
        ["torch", "transformers", "PIL"],
        f"""
import numpy as np
from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import EngineNotInstalledError
embeddings = HuggingFaceEmbeddings(model_name={str(packed)!r})
assert len(embeddings.embed_query("a ship")) == {dual_encoders.DIMENSION}
try:
    embeddings._loaded.encoder.encode_images(np.zeros((1, 32, 32, 3), dtype=np.uint8), encode_kwargs={{}})
except EngineNotInstalledError as error:
    json.dump(str(error), sys.stdout)
""",
    )
    assert 'pip install "langchain-localhf[image]"' in said
