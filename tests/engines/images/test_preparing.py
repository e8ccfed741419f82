"""Pictures to numbers: what transformers makes of them, for every engine."""

from __future__ import annotations

import resource
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from langchain_localhf.checkpoint.images import ImagePreparation
from langchain_localhf.engines.images import normalized, prepared, preparing

CLIP = ImagePreparation(
    shortest_edge=224,
    crop_to=(224, 224),
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
# Width and height. transformers up to 5.3 takes a side of 1 or 3 for the channels.
SHAPES = [(1, 1), (1, 7), (7, 1), (3, 3), (3, 50), (50, 3), (2, 2), (4, 90), (223, 225), (224, 224), (225, 223)]
SHAPES += [(640, 480), (481, 640), (1000, 31), (31, 1000), (17, 13), (300, 301), (449, 224)]
KNOWS_ITS_CHANNELS = hasattr(transformers, "CLIPImageProcessorPil")


def processor(name: str, **stated: Any) -> Any:
    """The processor of transformers that uses Pillow; its name depends on the version."""
    return (getattr(transformers, f"{name}Pil", None) or getattr(transformers, name))(**stated)


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture in which every pixel counts."""
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels_of(processor: Any, image: Image.Image) -> Any:
    """What transformers resizes and crops. Shape: `(height, width, 3)`."""
    values = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    return np.moveaxis(np.asarray(values), 0, -1)


def read(processor: Any, folder: Any) -> ImagePreparation:
    """The same steps as this processor's."""
    processor.save_pretrained(folder)
    return ImagePreparation.read(folder)


def is_clear(size: tuple[int, int]) -> bool:
    """Whether the installed transformers sees which axis holds the channels."""
    return KNOWS_ITS_CHANNELS or not {1, 3} & set(size)


PROCESSORS = {
    "CLIP": ("CLIPImageProcessor", {}),
    "CLIP with odd sides": ("CLIPImageProcessor", {"size": 35, "crop_size": {"height": 33, "width": 30}}),
    "CLIP that adds a border": ("CLIPImageProcessor", {"size": 20, "crop_size": {"height": 33, "width": 48}}),
    "CLIP that resizes nothing": ("CLIPImageProcessor", {"do_resize": False, "crop_size": 101}),
    "CLIP without a crop": ("CLIPImageProcessor", {"size": {"height": 40, "width": 50}, "do_center_crop": False}),
    "CLIP by nearest": ("CLIPImageProcessor", {"resample": 0}),
    "CLIP by Lanczos": ("CLIPImageProcessor", {"resample": 1}),
    "CLIP by boxes": ("CLIPImageProcessor", {"resample": 4, "size": 64, "crop_size": 64}),
    "CLIP by Hamming": ("CLIPImageProcessor", {"resample": 5, "size": 64, "crop_size": 64}),
    "SigLIP": ("SiglipImageProcessor", {}),
    "SigLIP of another size": ("SiglipImageProcessor", {"size": {"height": 384, "width": 256}, "resample": 2}),
    "ViT": ("ViTImageProcessor", {}),
    "Bit": ("BitImageProcessor", {}),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels(name: str, tmp_path: Any) -> None:
    """Resized and cropped to the bit as transformers does it with Pillow."""
    reference = processor(PROCESSORS[name][0], **PROCESSORS[name][1])
    preparation = read(reference, tmp_path)
    for size in filter(is_clear, SHAPES):
        image = noise(size)
        own = prepared(image, preparation)
        assert own.dtype == np.uint8
        np.testing.assert_array_equal(own, pixels_of(reference, image), err_msg=str(size))


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"do_rescale": False},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"image_mean": 0.1, "image_std": [0.2, 3.0, 0.01]},
    ],
    ids=str,
)
def test_numbers(stated: dict[str, Any], tmp_path: Any) -> None:
    """Scaled and normalised as transformers does it, several images at once."""
    reference = processor("CLIPImageProcessor", size=48, crop_size=48, **stated)
    preparation = read(reference, tmp_path)
    images = [noise((60, 70), 1), noise((90, 48), 2), noise((48, 48), 3)]
    own = normalized(np.stack([prepared(image, preparation) for image in images]), preparation)
    assert own.dtype == np.float32
    np.testing.assert_allclose(own, reference(images, return_tensors="np")["pixel_values"], rtol=0, atol=1e-6)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=60)
def test_any_size(width: int, height: int, edge: int, crop_height: int, crop_width: int) -> None:
    """For all sizes: of the image, of what it is resized to, and of what is kept."""
    crop = {"height": crop_height, "width": crop_width}
    image = noise((width, height))
    if is_clear(image.size):
        own = prepared(image, ImagePreparation(shortest_edge=edge, crop_to=(crop_height, crop_width)))
        np.testing.assert_array_equal(own, pixels_of(processor("CLIPImageProcessor", size=edge, crop_size=crop), image))


@pytest.mark.parametrize("size", [(1, 40), (3, 40), (40, 1), (40, 3), (1, 3), (3, 1), (1, 1), (3, 3)])
def test_sides_that_look_like_channels(size: tuple[int, int]) -> None:
    """A line of one or three pixels is no list of channels: its colours stay apart, and it is as wide as it is."""
    colours = np.zeros((size[1], size[0], 3), np.uint8)
    colours[:] = (250, 130, 10)
    for preparation in (CLIP, ImagePreparation(resize_to=(50, 40))):
        own = prepared(Image.fromarray(colours), preparation)
        assert own.shape == (*preparation.shape, 3)
        assert (own == (250, 130, 10)).all()


class TestLines:
    """A line of pixels, which has an enormous size after its shorter side was made 224 long."""

    @pytest.mark.parametrize("size", [(1, 331), (331, 1), (2, 600), (700, 3), (5, 1500), (300, 301), (500, 90)])
    @pytest.mark.parametrize("resample", [0, 1, 2, 3])
    def test_only_the_middle(self, size: tuple[int, int], resample: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where only the middle is made, it is what it would have been with all around it, but for roundings."""
        image, preparation = noise(size), CLIP.model_copy(update={"resample": resample})
        whole = prepared(image, preparation).astype(int)
        monkeypatch.setattr(preparing, "_MAX_RESIZED_PIXELS", 0)
        np.testing.assert_allclose(prepared(image, preparation), whole, rtol=0, atol=1)

    def test_a_border_around_the_middle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where the image is shorter than what is kept."""
        image, preparation = noise((3, 50)), ImagePreparation(shortest_edge=20, crop_to=(101, 33))
        whole = prepared(image, preparation).astype(int)
        monkeypatch.setattr(preparing, "_MAX_RESIZED_PIXELS", 0)
        np.testing.assert_allclose(prepared(image, preparation), whole, rtol=0, atol=1)

    @pytest.mark.parametrize("size", [(1, 4_000_000), (4_000_000, 1)])
    def test_memory(self, size: tuple[int, int]) -> None:
        """A line of millions needs no gigabytes: whole, this one would take 600 of them."""
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        used = _virtual_bytes()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), hard))
        try:
            assert prepared(Image.new("RGB", size, (9, 8, 7)), CLIP).shape == (224, 224, 3)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _virtual_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - not a file on a disk
        return int(file.read().split()[0]) * resource.getpagesize()
