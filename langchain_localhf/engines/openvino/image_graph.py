"""Images to vectors with a compiled graph: pixels in, numbers out, from any number of threads at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from langchain_localhf.engines.openvino.program import Program
from langchain_localhf.engines.openvino.settings import PIXELS_NAME
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.images import ImagePreparation
    from langchain_localhf.engines.openvino.program import Target

# As numbers of four bytes an image takes four times its memory, and a few already keep every core busy.
_IMAGES_TOGETHER = 16


class ImageGraph:
    """The part of a dual encoder that reads images. Safe to use from many threads at once.

    Args:
        path: The graph, an `.xml` file.
        preparation: How images are prepared for it.
        target: Where it is to run, and how.

    Raises:
        CheckpointError: The graph is damaged.
        InputError: OpenVINO cannot run it with these settings.
    """

    def __init__(self, path: Path, preparation: ImagePreparation, target: Target) -> None:
        self._program = Program(path, target)
        self._preparation = preparation

    def run(self, pixels: NDArray[np.uint8], *, max_rows: int | None = None) -> NDArray[np.float32]:
        """What the graph gives for images.

        Args:
            pixels: The images, resized and cropped. Shape: `(images, height, width, 3)`.
            max_rows: How many run together at most; None for as many as pay.

        Raises:
            InputError: The images have another height or width than the model reads.
            EngineNotInstalledError: Pillow is not installed.

        Returns:
            Shape: `(images, dimension)`, in the order of the images.
        """
        shape = (*self._preparation.shape, 3)
        if pixels.shape[1:] != shape:
            msg = f"images of shape {pixels.shape[1:]} are none that the model reads, which have {shape}"
            raise InputError(msg, hint="prepare them first: engines.images.prepared(image, encoder.image_preparation)")
        from langchain_localhf.engines.images import normalized  # noqa: PLC0415 - needs Pillow, which texts do without

        size = max_rows or _IMAGES_TOGETHER
        parts = (pixels[start : start + size] for start in range(0, len(pixels), size))
        return self._run((normalized(part, self._preparation) for part in parts), len(pixels))

    def probe(self) -> NDArray[np.float32]:
        """What the graph gives for an image of waves, which is drawn without Pillow. Shape: `(1, dimension)`."""
        height, width = self._preparation.shape
        waves = np.sin(np.arange(3 * height * width, dtype=np.float32) / np.float32(width))
        return self._run([waves.reshape(1, 3, height, width)], 1)

    def _run(self, batches: Iterable[NDArray[np.float32]], count: int) -> NDArray[np.float32]:
        vectors = np.empty((count, self._program.dimension), dtype=np.float32)
        for _ in self._program.run(_placed(batches), vectors):
            pass
        return vectors


def _placed(batches: Iterable[NDArray[np.float32]]) -> Iterator[tuple[range, dict[str, NDArray[np.float32]]]]:
    """Each batch with its rows in the result."""
    start = 0
    for batch in batches:
        yield range(start, start + len(batch)), {PIXELS_NAME: batch}
        start += len(batch)
