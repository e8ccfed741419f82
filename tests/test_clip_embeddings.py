"""Texts and images in one space: every form of an image, in batches, and never a file that nobody named."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from PIL import Image
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from support import checkpoints, dual_encoders

from langchain_localhf import CLIPEmbeddings, HuggingFaceEmbeddings
from langchain_localhf import embeddings as embeddings_module
from langchain_localhf.errors import CheckpointError, EngineError, InputError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORMS = {
    "clip": dual_encoders.clip,
    "siglip": dual_encoders.siglip,
    "st_clip": dual_encoders.st_clip,
    "st_clip_saved_anew": dual_encoders.st_clip_saved_anew,
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain CLIP; do not change it."""
    return dual_encoders.clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def text_tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for texts, in the space of the CLIP; do not change it."""
    return dual_encoders.text_tower(tmp_path_factory.mktemp("models") / "texts")


@pytest.fixture
def embeddings(clip: Path) -> CLIPEmbeddings:
    """The embeddings of the CLIP."""
    return CLIPEmbeddings(model=str(clip))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with five pictures, 0.png to 4.png."""
    for seed in range(5):
        dual_encoders.picture(seed).save(tmp_path / f"{seed}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def png(image: Image.Image) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def refused(embeddings: CLIPEmbeddings, image: Any, index: int = 1) -> InputError:
    """The error with which an image is refused, behind a good one."""
    good = dual_encoders.picture()
    with pytest.raises(InputError, match=rf"images\[{index}\]") as caught:
        embeddings.embed_image([*[good] * index, image])
    assert caught.value.index == index
    assert caught.value.hint
    return caught.value


class TestVectors:
    """What comes out."""

    @pytest.mark.parametrize("form", FORMS)
    def test_as_sentence_transformers(self, form: str, tmp_path: Path) -> None:
        """Images and texts get the vectors that sentence-transformers gives, for every form of a dual encoder."""
        model = FORMS[form](tmp_path / form)
        images = [dual_encoders.picture(seed, size) for seed, size in enumerate([(48, 40), (33, 90), (200, 100)])]
        embeddings = CLIPEmbeddings(model=str(model), backend="torch")
        texts = ["the weather is nice", "winter in the city"]
        if form != "siglip":  # sentence-transformers does not pad SigLIP's texts, and SigLIP reads what is padded
            expected = SentenceTransformer(str(model), device="cpu").encode(texts)
            np.testing.assert_allclose(embeddings.embed_documents(texts), expected, atol=1e-5)
        expected = SentenceTransformer(str(model), device="cpu").encode(images)
        np.testing.assert_allclose(embeddings.embed_image(images), expected, atol=1e-5)

    def test_every_form_of_an_image(self, embeddings: CLIPEmbeddings, folder: Path) -> None:
        """A path, bytes, base64, also in lines, a data: URI and a picture are one image."""
        data = (folder / "1.png").read_bytes()
        text = base64.b64encode(data).decode()
        forms = ["1.png", str(folder / "1.png"), Path("1.png"), data, bytearray(data), memoryview(data), text]
        forms += [
            f"data:image/png;base64,{text}",
            f"DATA:;BASE64,{text}",
            base64.encodebytes(data).decode(),
            f"data:image/png;base64,\r\n{base64.encodebytes(data).decode()}",
            Image.open("1.png"),
            dual_encoders.picture(1),
        ]
        vectors = embeddings.embed_image(forms)
        assert len(vectors) == len(forms)
        assert all(vector == vectors[0] for vector in vectors)
        assert len(vectors[0]) == embeddings.dimension == dual_encoders.DIMENSION
        assert all(type(number) is float for number in vectors[0])

    def test_both_names(self, embeddings: CLIPEmbeddings, folder: Path) -> None:
        """By the name that Chroma calls and by LangChain's, at once and later."""
        vectors = embeddings.embed_image(uris=["0.png", "1.png"])
        assert vectors == embeddings.embed_images(images=["0.png", "1.png"])
        assert vectors == asyncio.run(embeddings.aembed_image(uris=["0.png", "1.png"]))
        assert vectors == asyncio.run(embeddings.aembed_images(images=["0.png", "1.png"]))

    def test_order(self, embeddings: CLIPEmbeddings, folder: Path) -> None:
        """In the order of the images, over several batches and with repetitions, which are equal to the bit."""
        embeddings.encode_kwargs["batch_size"] = 2
        names = [f"{seed}.png" for seed in (3, 1, 3, 4, 0, 1, 2, 3, 3)]
        vectors = embeddings.embed_image(names)
        of_name = dict(zip(names, vectors, strict=True))
        assert [of_name[name] for name in names] == vectors
        assert vectors[0] is not vectors[2]
        for name, vector in of_name.items():
            np.testing.assert_allclose(embeddings.embed_image([name])[0], vector, atol=1e-5)

    @pytest.mark.parametrize("images", [[], (), iter(())])
    def test_none(self, embeddings: CLIPEmbeddings, images: Any) -> None:
        """No images, no vectors."""
        assert embeddings.embed_image(images) == []

    def test_settings(self, clip: Path) -> None:
        """What is set for documents holds for images; prompts are for texts."""
        plain, picture = CLIPEmbeddings(model=str(clip)), dual_encoders.picture()
        settings = {"normalize_embeddings": True, "prompt": "a photograph of "}
        normalized = CLIPEmbeddings(model=str(clip), encode_kwargs=settings)
        vector = np.array(plain.embed_image([picture])[0])
        np.testing.assert_allclose(normalized.embed_image([picture])[0], vector / np.linalg.norm(vector), atol=1e-6)
        shorter = CLIPEmbeddings(model=str(clip), model_kwargs={"truncate_dim": 5})
        np.testing.assert_allclose(shorter.embed_image([picture])[0], vector[:5], atol=1e-6)

    def test_long_text(self, embeddings: CLIPEmbeddings) -> None:
        """A text of more than 77 tokens is cut off; it is no error."""
        assert embeddings.max_seq_length == 77
        long = "winter in the city " * 500
        assert len(embeddings.embed_query(long)) == embeddings.dimension
        assert embeddings.embed_documents([long]) == embeddings.embed_documents([long + "and more"])

    def test_texts_as_without_images(self, embeddings: CLIPEmbeddings, clip: Path) -> None:
        """Texts have the vectors, and the space the name, that HuggingFaceEmbeddings gives them."""
        plain = HuggingFaceEmbeddings(model=str(clip))
        assert embeddings.embed_query("a ship") == plain.embed_query("a ship")
        assert embeddings.fingerprint == plain.fingerprint

    def test_not_finite(self, embeddings: CLIPEmbeddings, folder: Path) -> None:
        """A vector with a NaN is refused by the index of its image; nobody stores it."""
        encoder = embeddings._model.encoder

        class Broken:
            image_preparation = encoder.image_preparation

            def encode_images(self, pixels: Any, **settings: Any) -> Any:
                vectors = encoder.encode_images(pixels, **settings).copy()
                vectors[len(vectors) - 1, 2] = np.inf
                return vectors

        object.__setattr__(embeddings._model, "encoder", Broken())
        with pytest.raises(CheckpointError, match=r"no finite vector for images\[2\]"):
            embeddings.embed_image(["0.png", "0.png", "1.png", "0.png"])


class TestManyImages:
    """More than lie in memory."""

    def test_a_few_batches_at_a_time(self, embeddings: CLIPEmbeddings, monkeypatch: pytest.MonkeyPatch) -> None:
        """Images are read as they are needed: at most two batches ahead of the model."""
        data, read, ahead = png(dual_encoders.picture()), [0], []
        encoder = embeddings._model.encoder
        real = encoder.encode_images
        done = [0]

        def encode_images(pixels: Any, **settings: Any) -> Any:
            ahead.append(read[0] - done[0])
            done[0] += 8
            return real(pixels, **settings)

        def images() -> Iterator[bytes]:
            for seed in range(100):
                read[0] += 1
                yield png(dual_encoders.picture(seed))

        monkeypatch.setattr(encoder, "encode_images", encode_images)
        embeddings.encode_kwargs["batch_size"] = 8
        assert len(embeddings.embed_image(images())) == 100
        assert data
        assert max(ahead) <= 16
        assert len(ahead) == 13

    @pytest.mark.parametrize("size", [0, -3, "4"])
    def test_no_batch_size(self, embeddings: CLIPEmbeddings, size: Any) -> None:
        """It is refused before an image is read."""
        embeddings.encode_kwargs["batch_size"] = size
        with pytest.raises(InputError, match=f"batch_size is {size!r}"):
            embeddings.embed_image(["missing.png"])

    def test_equal_images_run_once(self, embeddings: CLIPEmbeddings, monkeypatch: pytest.MonkeyPatch) -> None:
        """An image that stands in a call twice, in whatever form, goes through the model once."""
        encoder = embeddings._model.encoder
        real, counts = encoder.encode_images, []

        def encode_images(pixels: Any, **settings: Any) -> Any:
            counts.append(len(pixels))
            return real(pixels, **settings)

        monkeypatch.setattr(encoder, "encode_images", encode_images)
        picture = dual_encoders.picture()
        embeddings.embed_image([picture, png(picture)] * 40)
        assert counts == [1]

    def test_first_error(self, embeddings: CLIPEmbeddings) -> None:
        """Of several bad images, the first is named, however long it takes to find out."""
        good = dual_encoders.picture()
        slow = png(Image.effect_noise((1500, 1500), 90))
        for _ in range(3):
            with pytest.raises(InputError) as caught:
                embeddings.embed_image([good, slow[:-50], b"nothing", "nothing"])
            assert caught.value.index == 1

    def test_bar(self, embeddings: CLIPEmbeddings, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """`show_progress` shows one bar for a call; the setting of encode wins."""
        embeddings.show_progress = True
        embeddings.embed_image(["0.png", "1.png"])
        assert "Embedding images: 100%" in capsys.readouterr().err
        embeddings.encode_kwargs["show_progress_bar"] = False
        embeddings.embed_image(["0.png"])
        assert capsys.readouterr().err == ""

    async def test_loop_stays_free(self, embeddings: CLIPEmbeddings) -> None:
        """While images are embedded, the event loop runs on."""
        slow = [png(Image.effect_noise((900, 900), 90)) for _ in range(12)]
        task, rounds = asyncio.create_task(embeddings.aembed_images(slow)), 0
        while not task.done():
            await asyncio.sleep(0.005)
            rounds += 1
        assert len(task.result()) == 12
        assert rounds > 3


class TestRefuse:
    """What is no image."""

    @pytest.mark.parametrize(
        "address",
        [
            "http://example.org/a.png",
            "https://example.org/a.png",
            "HTTPS://example.org/a.png",
            "file:///etc/hostname",
            "file:a.png",
            "s3://bucket/a.png",
            "gs://bucket/a.png",
            "ftp://example.org/a.png",
            "hf://datasets/a/b.png",
            "zip+http://example.org/a.zip",
            "\thttp://example.org/a.png",
        ],
    )
    def test_address(self, embeddings: CLIPEmbeddings, address: str) -> None:
        """Nothing is fetched from any address."""
        error = refused(embeddings, address)
        assert "nothing is fetched" in error.message or "neither a file" in error.message

    @pytest.mark.parametrize(
        ("image", "said"),
        [
            ("missing.png", "neither a file nor an image in base64"),
            (Path("missing.png"), "neither a file"),
            ("", "is no file"),
            (".", "is no file"),
            ("/dev/zero", "is no file"),
            ("a" * 5000, "cannot be read"),
            ("nul\0.png", "cannot be read"),
            ("half \ud800.png", "cannot be read"),
            ("data:image/png;base64,%%%", "base64 is damaged"),
            ("data:image/svg+xml,<svg/>", "address"),
            ("data:text/plain;base64,aGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8=", "is no image"),
            (b"no image at all, but a text", "is no image"),
            (b"", "is empty"),
            (None, "is NoneType"),
            (3, "is int"),
            (np.zeros((4, 4, 3), np.uint8), "is ndarray"),
            (["0.png"], "is list"),
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_no_image(self, embeddings: CLIPEmbeddings, image: Any, said: str) -> None:
        """What cannot be read, or is none, is refused with its index."""
        assert said in refused(embeddings, image).message

    def test_no_text_of_a_file_in_an_error(self, embeddings: CLIPEmbeddings, folder: Path) -> None:
        """What stands in a file that is no image is not repeated."""
        (folder / "secret.txt").write_text("the password is 1234")
        assert "1234" not in str(refused(embeddings, "secret.txt"))

    def test_a_pipe(self, embeddings: CLIPEmbeddings, folder: Path) -> None:
        """A pipe is not waited for."""
        os.mkfifo(folder / "pipe.png")
        assert "is no file" in refused(embeddings, "pipe.png").message

    def test_a_huge_file(self, embeddings: CLIPEmbeddings, folder: Path) -> None:
        """A file that is larger than any image may be is not read."""
        with (folder / "huge.png").open("wb") as file:
            file.truncate(1 << 40)
        assert "1,099,511,627,776 bytes" in refused(embeddings, "huge.png").message

    def test_base64_that_is_no_file(self, embeddings: CLIPEmbeddings) -> None:
        """Base64 of an image that was cut off is not looked up as a path in its whole length."""
        text = base64.b64encode(png(dual_encoders.picture())).decode()
        assert "damaged" in refused(embeddings, text[: len(text) // 8 * 4]).message
        assert len(refused(embeddings, text[:101]).message) < 200

    def test_the_file_of_a_name_with_a_colon(self, embeddings: CLIPEmbeddings, folder: Path) -> None:
        """Such a name is an address as a text, and a path as a path."""
        (folder / "harbour:1.png").write_bytes((folder / "0.png").read_bytes())
        assert "pathlib.Path" in str(refused(embeddings, "harbour:1.png").hint)
        assert embeddings.embed_image([Path("harbour:1.png")]) == embeddings.embed_image(["0.png"])

    @pytest.mark.parametrize(
        "images", ["0.png", b"\x89PNG", Path("0.png"), Image.new("RGB", (2, 2)), {"a": "0.png"}, 3]
    )
    def test_no_list(self, embeddings: CLIPEmbeddings, images: Any) -> None:
        """A single image in place of a list is not taken apart."""
        with pytest.raises(InputError, match="takes a list of images") as caught:
            embeddings.embed_image(images)
        assert "embed_image([image])" in str(caught.value.hint)

    def test_types_first(self, embeddings: CLIPEmbeddings, folder: Path) -> None:
        """In a list, what can be no image is found before the first one is opened."""
        opened = Opened()
        with opened, pytest.raises(InputError, match=r"images\[2\] is int"):
            embeddings.embed_image(["0.png", "1.png", 3])
        assert not opened.paths

    def test_size(self, clip: Path) -> None:
        """`max_image_pixels` is the limit, also for pictures in hand."""
        embeddings = CLIPEmbeddings(model=str(clip), max_image_pixels=48 * 40)
        assert len(embeddings.embed_image([dual_encoders.picture()])) == 1
        assert "49 x 40 pixels" in refused(embeddings, dual_encoders.picture(0, (49, 40))).message
        assert "49 x 40 pixels" in refused(embeddings, png(dual_encoders.picture(0, (49, 40)))).message
        with pytest.raises(ValidationError):
            CLIPEmbeddings(model=str(clip), max_image_pixels=0)


class Opened:
    """Lists the files that are opened or looked at while it is on; an audit hook cannot be removed."""

    def __init__(self) -> None:
        self.on = False
        self.paths: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in {"open", "os.listdir", "os.scandir", "urllib.Request", "glob.glob"}:
            self.paths.append(str(arguments[0]))

    def __enter__(self) -> Self:
        self.on = True
        return self

    def __exit__(self, *_: object) -> None:
        self.on = False


@pytest.mark.parametrize("method", ["embed_query", "embed_documents"])
def test_texts_open_nothing(method: str, embeddings: CLIPEmbeddings, folder: Path) -> None:
    """A text that looks like an address, a path or base64 is embedded as a text, and nothing is opened."""
    data = base64.b64encode((folder / "0.png").read_bytes()).decode()
    texts = ["0.png", str(folder / "0.png"), "file:///etc/hostname", "https://example.org/a.png", data]
    texts += [f"data:image/png;base64,{data}", "<image>", "/etc/hostname"]
    plain = HuggingFaceEmbeddings(model=embeddings.model_name)
    embed: Callable[[Any, str], list[float]] = (
        (lambda model, text: model.embed_query(text))
        if method == "embed_query"
        else (lambda model, text: model.embed_documents([text])[0])
    )
    embed(embeddings, "a text, so that all is loaded")
    image = embeddings.embed_image(["0.png"])[0]
    opened = Opened()
    for text in texts:
        with opened:
            vector = embed(embeddings, text)
        assert vector == embed(plain, text)
        assert vector != image
    assert opened.paths == []


class TestPair:
    """A text tower that was trained to meet the images of another model."""

    @pytest.fixture
    def pair(self, clip: Path, text_tower: Path) -> CLIPEmbeddings:
        """Both."""
        return CLIPEmbeddings(model_name=str(clip), text_model_name=str(text_tower))

    def test_each_does_its_part(self, pair: CLIPEmbeddings, clip: Path, text_tower: Path) -> None:
        """Texts come from one model, and images from the other."""
        picture = dual_encoders.picture()
        assert pair.embed_image([picture]) == CLIPEmbeddings(model=str(clip)).embed_image([picture])
        assert pair.embed_query("a ship") == HuggingFaceEmbeddings(model=str(text_tower)).embed_query("a ship")
        assert pair.max_seq_length == HuggingFaceEmbeddings(model=str(text_tower)).max_seq_length
        assert pair.dimension == len(pair.embed_query("a ship")) == len(pair.embed_image([picture])[0])

    def test_fingerprint(self, pair: CLIPEmbeddings, clip: Path, text_tower: Path, tmp_path: Path) -> None:
        """It names both: another one of either has another."""
        alone = [HuggingFaceEmbeddings(model=str(one)).fingerprint for one in (clip, text_tower)]
        siglip = dual_encoders.siglip(tmp_path / "siglip")
        other_images = CLIPEmbeddings(model=str(siglip), text_model_name=str(text_tower)).fingerprint
        assert len({pair.fingerprint, other_images, *alone}) == 4
        assert len(pair.fingerprint) == 64
        normalized = CLIPEmbeddings(
            model=str(clip), text_model_name=str(text_tower), encode_kwargs={"normalize_embeddings": True}
        )
        assert normalized.fingerprint != pair.fingerprint

    def test_the_same_twice(self, clip: Path) -> None:
        """A model with itself is that model."""
        same = CLIPEmbeddings(model=str(clip), text_model_name=str(clip))
        assert same.fingerprint == CLIPEmbeddings(model=str(clip)).fingerprint

    def test_no_pair(self, clip: Path, tmp_path: Path) -> None:
        """Vectors of two lengths are no pair."""
        other = checkpoints.sentence_transformer(tmp_path / "other")
        with pytest.raises(UnsupportedModelError, match=r"numbers, and those of .* 16: they are no pair"):
            CLIPEmbeddings(model=str(clip), text_model_name=str(other))

    def test_no_images(self, text_tower: Path) -> None:
        """A model that reads no images says how to name one that does."""
        with pytest.raises(UnsupportedModelError, match="reads no images") as caught:
            CLIPEmbeddings(model=str(text_tower))
        assert f'text_model_name="{text_tower}"' in str(caught.value.hint)
        assert "HuggingFaceEmbeddings" in str(caught.value.hint)

    def test_one_revision(self, clip: Path, text_tower: Path) -> None:
        """One revision cannot be that of two models."""
        with pytest.raises(InputError, match="one revision"):
            CLIPEmbeddings(model=str(clip), text_model_name=str(text_tower), model_kwargs={"revision": "main"})

    def test_pickle(self, pair: CLIPEmbeddings) -> None:
        """A pickle holds names and settings, and loads both again."""
        data = pickle.dumps(pair)
        assert len(data) < 2000
        again = pickle.loads(data)
        picture = dual_encoders.picture()
        assert again.fingerprint == pair.fingerprint
        assert again.embed_image([picture]) == pair.embed_image([picture])

    @pytest.mark.parametrize("deep", [False, True])
    def test_copy(self, pair: CLIPEmbeddings, clip: Path, deep: bool) -> None:  # noqa: FBT001
        """A copy shares both; with another field, it loads what that asks for."""
        copied = pair.model_copy(deep=deep)
        assert copied._image_model is pair._image_model
        assert copied._loaded is pair._loaded
        alone = pair.model_copy(update={"text_model_name": None}, deep=deep)
        assert alone.fingerprint == CLIPEmbeddings(model=str(clip)).fingerprint

    def test_close(self, pair: CLIPEmbeddings, clip: Path) -> None:
        """Whatever needs a model says that it was closed; who shares one works on."""
        sharing = CLIPEmbeddings(model=str(clip))
        pair.close()
        pair.close()
        for use in (
            lambda: pair.embed_image([]),
            lambda: pair.embed_images([dual_encoders.picture()]),
            lambda: pair.embed_query("a ship"),
            lambda: pair.fingerprint,
        ):
            with pytest.raises(EngineError, match="was closed"):
                use()
        assert len(sharing.embed_image([dual_encoders.picture()])) == 1


def test_fields(clip: Path) -> None:
    """Names as in HuggingFaceEmbeddings; misspelt ones are refused, and what was loaded is frozen."""
    assert CLIPEmbeddings.model_fields["model_name"].default == "sentence-transformers/clip-ViT-B-32"
    embeddings = CLIPEmbeddings(model_name=str(clip))
    for name in ("model_name", "text_model_name"):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(embeddings, name, "other")
    with pytest.raises(ValidationError, match="text_model"):
        CLIPEmbeddings(model=str(clip), text_model="x")


_WITHOUT_PILLOW = """
import sys
sys.modules["PIL"] = None
from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import EngineNotInstalledError
try:
    from langchain_localhf import CLIPEmbeddings
except EngineNotInstalledError as error:
    print(error)
"""


def test_without_pillow() -> None:
    """Without Pillow, the class says what to install; the one for texts needs none."""
    command = [sys.executable, "-c", _WITHOUT_PILLOW]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own
    assert "Pillow" in said
    assert 'pip install "langchain-localhf[image]"' in said


def test_misspelt() -> None:
    """A name that is not there is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'CLIPEmbedding'"):
        _ = embeddings_module.CLIPEmbedding


@pytest.fixture(scope="module")
def _model_of_the_suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dual_encoders.st_clip(tmp_path_factory.mktemp("models") / "st-clip")


class TestUnit(EmbeddingsUnitTests):
    """What every embeddings class of LangChain must do without calling a model."""

    @pytest.fixture(autouse=True)
    def _with_a_model(self, _model_of_the_suites: Path) -> None:
        self.model = _model_of_the_suites

    @property
    def embeddings_class(self) -> type[CLIPEmbeddings]:
        return CLIPEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": str(self.model)}


class TestIntegration(EmbeddingsIntegrationTests):
    """What every embeddings class of LangChain must do with a model."""

    @pytest.fixture(autouse=True)
    def _with_a_model(self, _model_of_the_suites: Path) -> None:
        self.model = _model_of_the_suites

    @property
    def embeddings_class(self) -> type[CLIPEmbeddings]:
        return CLIPEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": str(self.model)}
