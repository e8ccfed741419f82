"""Images in the torch engine: prepared as for every other engine, after that was compared with the model's own way."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor

from langchain_localhf.checkpoint.images import ImagePreparation
from langchain_localhf.engines.images import normalized, prepared
from langchain_localhf.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_MAX_DIFFERENCE = 1e-3
_IMAGES_AT_ONCE = 32
_STEPS = ("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize")
# Old versions of transformers have another word for the processor that resizes with Pillow.
_WITH_PILLOW: Mapping[str, Any] = (
    {"backend": "pil"} if find_spec("transformers.image_processing_backends") else {"use_fast": False}
)


class ImageReader:
    """How a dual encoder reads images.

    Args:
        folder: The folder with its processor.
        processor_kwargs: What the user loads the processor with.

    Attributes:
        preparation: How an image becomes what the model reads.
        probed: How many images `probe` gives.

    Raises:
        IncompleteModelError: Nothing says how to prepare images.
        CheckpointError: A file is damaged.
        UnsupportedModelError: The model wants them in another way than any that is known here.
    """

    probed = 2

    def __init__(self, folder: Path, *, processor_kwargs: Mapping[str, Any]) -> None:
        self.preparation = ImagePreparation.read(folder)
        picture = _picture()
        load: Callable[..., Any] = AutoImageProcessor.from_pretrained
        processor = load(folder, **{**processor_kwargs, **_WITH_PILLOW, "local_files_only": True})
        expected = np.asarray(processor(picture, return_tensors="np")["pixel_values"])
        # Asks the model's own processor to take pixels as they are.
        self._as_they_are = {step: False for step in _STEPS if hasattr(processor, step)}
        own = normalized(prepared(picture, self.preparation)[np.newaxis], self.preparation)
        if own.shape != expected.shape or not np.abs(own - expected).max() <= _MAX_DIFFERENCE:
            msg = f"{folder} prepares images in a way that is not known here ({type(processor).__name__})"
            hint = "use a model whose images are resized, cropped and normalised only"
            if processor_kwargs:
                hint = f"leave processor_kwargs out of model_kwargs, or {hint}"
            raise UnsupportedModelError(msg, hint=hint)

    def probe(self) -> NDArray[np.uint8]:
        """Images to run the model with. Shape: `(probed, height, width, 3)`."""
        picture = _picture()
        turned = picture.transpose(Image.Transpose.ROTATE_90)
        return np.stack([prepared(picture, self.preparation), prepared(turned, self.preparation)])

    def batches(
        self, pixels: NDArray[np.uint8], encode_kwargs: Mapping[str, Any]
    ) -> Iterator[tuple[list[dict[str, NDArray[np.float32]]], dict[str, Any]]]:
        """What `SentenceTransformer.encode` takes for images that are prepared: the inputs, and the settings.

        A batch at a time: as numbers that a model reads, an image takes four times the memory.
        """
        size = encode_kwargs.get("batch_size", _IMAGES_AT_ONCE)
        processing = {**(encode_kwargs.get("processing_kwargs") or {}), "image": self._as_they_are}
        settings = {"show_progress_bar": False, **encode_kwargs, "batch_size": size, "processing_kwargs": processing}
        for start in range(0, len(pixels), max(1, size)):  # the library refuses what is less
            images = normalized(pixels[start : start + max(1, size)], self.preparation)
            yield [{"image": image} for image in images], settings


def _picture() -> Image.Image:
    """A picture of soft shapes in all colours, higher than wide, so that every step shows in its pixels."""
    across, down = np.meshgrid(np.linspace(0, 7, 83), np.linspace(0, 11, 131))
    channels = [np.sin(across + down), np.cos(2 * across - down), np.sin(across * down / 3)]
    return Image.fromarray((127.5 + 127.5 * np.stack(channels, axis=-1)).astype(np.uint8))
