"""Every difference of `CLIPEmbeddings`, shown on both sides where that needs no network and no other package."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from sentence_transformers import SentenceTransformer
from support import dual_encoders
from support.tables import Table
from transformers import AutoTokenizer, SiglipModel

from langchain_localhf import CLIPEmbeddings
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from support.network import NetworkGuard

TABLE = Table("differences.md", "CLIPEmbeddings")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual encoder; do not change it."""
    return dual_encoders.clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def ours(folder: Path) -> CLIPEmbeddings:
    """Its embeddings here."""
    return CLIPEmbeddings(model=str(folder), backend="torch")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> SentenceTransformer:
    """The same in sentence-transformers."""
    return SentenceTransformer(str(folder), device="cpu")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    """The file as Pillow opens it, which reads no pixels yet."""
    return Image.open(io.BytesIO(data))


def difference(one: Any, other: Any) -> float:
    """How far two vectors are apart."""
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


def test_each_row_has_one_test() -> None:
    """The table and the tests below say the same."""
    TABLE.check()


@TABLE.row("a text that looks like an image's path or address")
def test_path_as_a_text(ours: CLIPEmbeddings, theirs: SentenceTransformer, tmp_path: Path) -> None:
    """Theirs opens the file; here its name is a text."""
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(dual_encoders.picture()))
    image = ours.embed_image([path])[0]
    assert difference(theirs.encode([str(path)])[0], image) < 1e-5
    assert difference(ours.embed_query(str(path)), image) > 0.1


@TABLE.row("the address of an image")
def test_address(ours: CLIPEmbeddings, theirs: SentenceTransformer, network: NetworkGuard) -> None:
    """Theirs reaches for the network."""
    with pytest.raises(Exception, match=r"network guard|example\.org|ConnectError|refused"):
        theirs.encode(["https://example.org/a.png"])
    assert network.attempts
    network.attempts.clear()
    with pytest.raises(InputError, match="nothing is fetched"):
        ours.embed_image(["https://example.org/a.png"])
    assert ours.embed_query("https://example.org/a.png")


@TABLE.row("the length of a vector")
def test_length(ours: CLIPEmbeddings, theirs: SentenceTransformer, folder: Path) -> None:
    """OpenCLIPEmbeddings divides each vector by its length; here the setting does."""
    picture = dual_encoders.picture()
    assert difference(ours.embed_image([picture]), theirs.encode([picture])) < 1e-5
    assert not np.isclose(np.linalg.norm(ours.embed_image([picture])[0]), 1)
    normalized = CLIPEmbeddings(model=str(folder), encode_kwargs={"normalize_embeddings": True})
    for vector in (normalized.embed_image([picture])[0], normalized.embed_query("a ship")):
        assert np.isclose(np.linalg.norm(vector), 1)


@TABLE.row("images in a call")
def test_batches(ours: CLIPEmbeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty images are two batches."""
    encoder = ours._model.encoder
    real, sizes = encoder.encode_images, []

    def encode_images(pixels: Any, **settings: Any) -> Any:
        sizes.append(len(pixels))
        return real(pixels, **settings)

    monkeypatch.setattr(encoder, "encode_images", encode_images)
    ours.embed_image([dual_encoders.picture(seed) for seed in range(40)])
    assert sizes == [32, 8]


@TABLE.row("an image that stands in a call twice")
def test_twice(ours: CLIPEmbeddings) -> None:
    """The last place of the second batch has the vector of the first place of the first one."""
    pictures = [dual_encoders.picture(seed) for seed in range(40)]
    vectors = ours.embed_image([*pictures, pictures[0]])
    assert vectors[0] == vectors[-1]


@TABLE.row("bytes, base64 and pictures in place of paths")
def test_bytes(ours: CLIPEmbeddings, theirs: SentenceTransformer) -> None:
    """Theirs takes pictures, and no bytes."""
    data = encoded(dual_encoders.picture())
    with pytest.raises(ValueError, match="bytes"):
        theirs.encode([data])
    assert ours.embed_image([data]) == ours.embed_image([opened(data)])


@TABLE.row("a photograph that EXIF says lies on its side")
def test_turned(ours: CLIPEmbeddings, theirs: SentenceTransformer) -> None:
    """Theirs embeds it as it lies."""
    picture = dual_encoders.picture()
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(picture.transpose(Image.Transpose.ROTATE_90), exif=exif)
    upright = ours.embed_image([picture])[0]
    assert difference(ours.embed_image([lying])[0], upright) < 1e-5
    assert difference(theirs.encode([opened(lying)])[0], upright) > 0.1


@TABLE.row("gray in 16 bits")
def test_sixteen_bits(ours: CLIPEmbeddings, theirs: SentenceTransformer) -> None:
    """Theirs sees white."""
    gray = dual_encoders.picture().convert("L").point(lambda value: max(value, 1))
    data = encoded(Image.fromarray(np.asarray(gray).astype(np.uint16) * 257))
    white = theirs.encode([Image.new("RGB", gray.size, "white")])[0]
    assert difference(theirs.encode([opened(data)])[0], white) < 1e-5
    assert difference(ours.embed_image([data])[0], ours.embed_image([gray])[0]) < 1e-5
    assert difference(ours.embed_image([data])[0], white) > 0.1


@TABLE.row("a picture of a kind that another program decodes")
def test_another_program(
    ours: CLIPEmbeddings, theirs: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs runs what is called gs."""
    ran = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    data = encoded(dual_encoders.picture(), "EPS")
    with pytest.raises(InputError):
        ours.embed_image([data])
    with pytest.raises(InputError, match="EPS"):
        ours.embed_image([opened(data)])
    assert not ran.exists()
    with pytest.raises(Exception, match=r"gs|returned non-zero"):
        theirs.encode([opened(data)])
    assert ran.exists()


@TABLE.row("a picture of too many pixels")
def test_bomb(ours: CLIPEmbeddings) -> None:
    """Pillow warns of ninety million, and goes on."""
    data = encoded(Image.new("1", (10_000, 9_000)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened(data)
    assert "bomb" in str(caught[0].message)
    with pytest.raises(InputError, match="10000 x 9000 pixels"):
        ours.embed_image([data])


@TABLE.row("a damaged image")
def test_damaged(ours: CLIPEmbeddings, theirs: SentenceTransformer) -> None:
    """Theirs does not say which one it is."""
    good, data = dual_encoders.picture(), encoded(Image.effect_noise((90, 90), 80))
    with pytest.raises(OSError, match=r"^image file is truncated$"):
        theirs.encode([good, opened(data[:3000])])
    with pytest.raises(InputError, match=r"^images\[1\] is a damaged image") as caught:
        ours.embed_image([good, data[:3000]])
    assert caught.value.index == 1


@TABLE.row("a text for SigLIP")
def test_siglip(tmp_path: Path) -> None:
    """The words are padded to the model's length, as its makers say; sentence-transformers does not."""
    folder = dual_encoders.siglip(tmp_path / "siglip")
    words = AutoTokenizer.from_pretrained(folder)(["winter in the city"], padding="max_length", return_tensors="pt")
    found = SiglipModel.from_pretrained(folder).get_text_features(**words)
    expected = getattr(found, "pooler_output", found).detach().numpy()[0]
    assert difference(CLIPEmbeddings(model=str(folder)).embed_query("winter in the city"), expected) < 1e-5
    assert difference(SentenceTransformer(str(folder), device="cpu").encode(["winter in the city"])[0], expected) > 1e-3


@TABLE.row("texts and images from two models")
def test_pair(folder: Path, tmp_path: Path) -> None:
    """One object holds both."""
    texts = dual_encoders.text_tower(tmp_path / "texts")
    pair, picture = CLIPEmbeddings(model=str(folder), text_model_name=str(texts)), dual_encoders.picture()
    theirs = [SentenceTransformer(str(one), device="cpu") for one in (folder, texts)]
    assert difference(pair.embed_image([picture]), theirs[0].encode([picture])) < 1e-5
    assert difference(pair.embed_query("a ship"), theirs[1].encode("a ship")) < 1e-5
