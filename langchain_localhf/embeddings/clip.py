"""Embeddings for LangChain of texts and images in one space, as CLIP and SigLIP make them.

Drop-in for `langchain_experimental.open_clip.OpenCLIPEmbeddings`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sized
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.runnables.config import run_in_executor
from pydantic import Field, PrivateAttr
from tqdm import tqdm  # type: ignore[import-untyped]

from langchain_localhf.embeddings.huggingface import HuggingFaceEmbeddings
from langchain_localhf.embeddings.images import checked_images, picture
from langchain_localhf.engines.images import DEFAULT_MAX_PIXELS, prefetched, prepared
from langchain_localhf.errors import CheckpointError, InputError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.images import ImagePreparation
    from langchain_localhf.embeddings.images import ImageInput
    from langchain_localhf.loaded import LoadedEncoder

_IMAGES_AT_ONCE = 32


class CLIPEmbeddings(HuggingFaceEmbeddings):
    """Embeds texts and images with a dual encoder from this machine, so that words find pictures; never downloads.

    ```python
    from langchain_localhf import CLIPEmbeddings

    embeddings = CLIPEmbeddings(model_name="clip-ViT-B-32")
    vectors = embeddings.embed_image(["harbour.jpg", "desk.png"])
    query = embeddings.embed_query("ships at sea")
    ```

    Everything that holds for `HuggingFaceEmbeddings` and texts holds here. A text is never taken for a path or an
    address: only `embed_image` opens files, and nothing fetches any.

    Raises:
        UnsupportedModelError: The model reads no images, or makes vectors of another length than the one for texts.
        LocalHFError: As for `HuggingFaceEmbeddings`.
    """

    model_name: str = Field(default="sentence-transformers/clip-ViT-B-32", alias="model", frozen=True)
    """The dual encoder: a folder, `org/name`, `org/name@revision`, or a bare name from sentence-transformers."""
    text_model_name: str | None = Field(default=None, frozen=True)
    """Another model for texts, which was trained to meet the images of this one, such as
    `clip-ViT-B-32-multilingual-v1` for `clip-ViT-B-32`."""
    max_image_pixels: int = Field(default=DEFAULT_MAX_PIXELS, gt=0)
    """How many pixels an image may have; a larger one is refused before it is decoded."""

    _image_model: LoadedEncoder | None = PrivateAttr(default=None)

    def __init__(self, **fields: object) -> None:
        # For type checkers, as in the class above.
        super().__init__(**fields)

    def _load(self) -> LoadedEncoder:
        self._check_settings()
        is_pair = self.text_model_name is not None
        if is_pair and "revision" in self.model_kwargs:
            msg = "model_kwargs names one revision, and there are two models"
            raise InputError(msg, hint='put each behind its name: model_name="org/name@revision"')
        images = self._load_encoder(self.model_name, pooling=None if is_pair else self.pooling)
        if images.encoder.image_preparation is None:
            msg = f"{self.model_name} reads no images"
            hint = (
                f'name the model that does: model_name="clip-ViT-B-32", text_model_name="{self.model_name}"; '
                "or use HuggingFaceEmbeddings for texts alone"
            )
            raise UnsupportedModelError(msg, hint=hint)
        texts = images
        if self.text_model_name is not None:
            texts = self._load_encoder(self.text_model_name, pooling=self.pooling)
            lengths = texts.encoder.dimension, images.encoder.dimension
            if lengths[0] != lengths[1]:
                msg = (
                    f"the vectors of {self.text_model_name} have {lengths[0]} numbers, and those of "
                    f"{self.model_name} {lengths[1]}: they are no pair"
                )
                raise UnsupportedModelError(msg, hint="name the image model that the card of the text model names")
        self._image_model = images
        return texts

    @property
    def fingerprint(self) -> str:
        """What identifies the vectors that this object makes of documents and images, as 64 hexadecimal digits.

        For one model it is that of `HuggingFaceEmbeddings`, whose vectors of texts are the same.
        """
        texts, images = super().fingerprint, self._images.fingerprint(self._settings("document"))
        return texts if texts == images else hashlib.sha256(f"{images} {texts}".encode()).hexdigest()

    def embed_image(self, uris: Iterable[ImageInput]) -> list[list[float]]:
        """Embeds images, in batches; while the model runs, the next ones are read and decoded.

        An image is what a person sees: turned as its EXIF says, the first frame of an animated one, what is
        transparent on white. Equal images in one call get the same vector to the last bit.

        Args:
            uris: The images, as a list or anything else that gives one after the other: paths (`str` or `Path`), the
                bytes of files, these in base64, bare or as a `data:` URI, or pictures that Pillow has opened.

        Returns:
            One vector of `dimension` floats an image, in the order of the images.

        Raises:
            InputError: An item is no image, damaged, too large, or an address; the error names its index.
            EngineError: This object was closed.
        """
        encoder = self._images.encoder
        preparation = encoder.image_preparation
        assert preparation is not None  # noqa: S101 - `_load` refuses such a model
        settings = self._settings("document")
        show_progress = settings.pop("show_progress_bar", self.show_progress)
        images = checked_images(uris)
        vectors: dict[bytes, NDArray[np.number[Any]]] = {}
        keys: list[bytes] = []
        total = len(images) if isinstance(images, Sized) else None
        with tqdm(total=total, desc="Embedding images", unit=" images", disable=not show_progress) as bar:
            for batch in self._prepared(images, preparation, _batch_size(settings)):
                batch_keys = [hashlib.blake2b(pixels.data, digest_size=16).digest() for pixels in batch]
                new = {key: one for key, one in zip(batch_keys, batch, strict=True) if key not in vectors}
                if new:
                    rows = encoder.encode_images(np.stack(list(new.values())), encode_kwargs=settings)
                    _refuse_not_finite(rows, [len(keys) + batch_keys.index(key) for key in new])
                    vectors.update(zip(new, rows, strict=True))
                keys += batch_keys
                bar.update(len(batch))
        return [vectors[key].astype(float).tolist() for key in keys]

    def embed_images(self, images: Iterable[ImageInput]) -> list[list[float]]:
        """The same as `embed_image`, which has the name and the parameter that Chroma calls."""
        return self.embed_image(images)

    async def aembed_image(self, uris: Iterable[ImageInput]) -> list[list[float]]:
        """As `embed_image`, in a thread."""
        return await run_in_executor(None, self.embed_image, uris)

    async def aembed_images(self, images: Iterable[ImageInput]) -> list[list[float]]:
        """As `embed_image`, in a thread."""
        return await run_in_executor(None, self.embed_image, images)

    def close(self) -> None:
        """Gives back the memory of the models, once no other object shares them."""
        super().close()
        self._image_model = None

    @property
    def _images(self) -> LoadedEncoder:
        images = self._image_model  # looked at first: another thread may close this object between the two
        texts = self._model  # says so if it did
        return images or texts

    def _prepared(
        self, images: Iterable[Any], preparation: ImagePreparation, batch_size: int
    ) -> Iterator[list[NDArray[np.uint8]]]:
        def read(item: tuple[int, Any]) -> NDArray[np.uint8]:
            index, image = item
            decoded = picture(image, index, max_pixels=self.max_image_pixels)
            return np.ascontiguousarray(prepared(decoded, preparation))

        return prefetched(enumerate(images), read, batch_size=batch_size)


def _batch_size(settings: Mapping[str, Any]) -> int:
    size = settings.get("batch_size")
    if size is None:
        return _IMAGES_AT_ONCE
    if not isinstance(size, int) or size < 1:
        raise InputError(f"batch_size is {size!r}; expected a whole number from 1 on", hint="leave it out")
    return size


def _refuse_not_finite(rows: NDArray[np.number[Any]], indices: list[int]) -> None:
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        msg = f"the model gives no finite vector for images[{indices[int(np.argmin(finite))]}]"
        raise CheckpointError(msg, hint="if the model runs in half precision, load it in float32")
