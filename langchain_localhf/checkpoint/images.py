"""How a checkpoint wants images: its `preprocessor_config.json`, read as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from langchain_localhf.checkpoint.modules import PULL_AGAIN, read_json
from langchain_localhf.errors import CheckpointError, IncompleteModelError, UnsupportedModelError
from langchain_localhf.store.plain_data import PlainData

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREPROCESSOR_FILE = "preprocessor_config.json"
# transformers writes the same there, as a part, and looks there first.
_PROCESSOR_FILE = "processor_config.json"
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALVES = (0.5, 0.5, 0.5)
_MAX_SIDE = 8192
_MAX_RESAMPLE = 5
_MAX_NUMBER = 1e6

_CLIP: dict[str, Any] = {
    "do_resize": True, "size": {"shortest_edge": 224}, "resample": 3, "default_to_square": False,
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD,
}  # fmt: skip
_SIGLIP = {
    **_CLIP, "size": {"height": 224, "width": 224}, "do_center_crop": False, "crop_size": None,
    "image_mean": _HALVES, "image_std": _HALVES
}  # fmt: skip
# What transformers takes where a file leaves a setting out, by the class that the file names.
DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": _CLIP,
    "BitImageProcessor": _CLIP,
    "SiglipImageProcessor": _SIGLIP,
    "ViTImageProcessor": {**_SIGLIP, "resample": 2, "default_to_square": True},
}
# For files that name no class, as those of the first CLIP models.
_CLASS_OF_MODEL = {"clip": "CLIPImageProcessor", "siglip": "SiglipImageProcessor"}
# Settings that change an image, and that nobody here knows how to follow.
_NOT_FOLLOWED = ("auto_map", "crop_pct", "do_pad", "do_thumbnail", "do_reduce_labels", "use_square_size")


class ImagePreparation(PlainData):
    """How an image becomes the numbers that a model reads: resized, cropped, scaled and normalised, in this order.

    Attributes:
        shortest_edge: What the shorter side is resized to, the other one in proportion; None to resize both, to
            `resize_to`.
        resize_to: The height and width to resize to, whatever the proportions; None with `shortest_edge`, or where
            nothing is resized.
        resample: The filter, in Pillow's numbers: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, ...
        crop_to: The height and width of the middle that is kept; None to keep all.
        scale: What the values from 0 to 255 are multiplied with.
        mean: What is subtracted then, one a channel.
        std: What it is divided by, one a channel.
    """

    shortest_edge: int | None = None
    resize_to: tuple[int, int] | None = None
    resample: Literal[0, 1, 2, 3, 4, 5] = 3
    crop_to: tuple[int, int] | None = None
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def shape(self) -> tuple[int, int]:
        """The height and width of every prepared image."""
        shape = self.crop_to or self.resize_to
        assert shape is not None  # noqa: S101 - `read` refuses what would leave images of several sizes
        return shape

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads what the files in a folder say.

        Raises:
            IncompleteModelError: There is no such file.
            CheckpointError: It is damaged.
            UnsupportedModelError: It asks for something else, such as patches of several sizes.
        """
        settings = _Settings.read(folder)
        size, side = None, None
        if settings.flag("do_resize"):
            size, side = settings.size("size", square=settings.flag("default_to_square"), or_shortest=True)
        crop = settings.size("crop_size", square=True)[0] if settings.flag("do_center_crop") else None
        if size is None and crop is None:
            settings.refuse("size", "leaves images of several sizes")
        normalized = settings.flag("do_normalize")
        return cls(
            shortest_edge=side,
            resize_to=size,
            resample=settings.resample(),
            crop_to=crop,
            scale=settings.number("rescale_factor") if settings.flag("do_rescale") else 1.0,
            mean=settings.channels("image_mean") if normalized else (0.0, 0.0, 0.0),
            std=settings.channels("image_std") if normalized else (1.0, 1.0, 1.0),
        )


@dataclass(frozen=True)
class _Settings:
    """The settings in a file, over the defaults of the class that it names; None stands for the default, too."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        path = folder / _PROCESSOR_FILE
        stated = read_json(path).get("image_processor")
        if stated is None:
            path = folder / PREPROCESSOR_FILE
            if not path.is_file():
                msg = f"nothing in {folder} says how images are prepared: {PREPROCESSOR_FILE} is missing"
                raise IncompleteModelError(msg, missing=(PREPROCESSOR_FILE,), hint=PULL_AGAIN)
            stated = read_json(path)
        if not isinstance(stated, dict):
            msg = f"{path} should hold the settings of the image processor as an object"
            raise CheckpointError(msg, hint=PULL_AGAIN)
        given = {key: value for key, value in stated.items() if value is not None}
        name = _class_named(given, folder)
        if name not in DEFAULTS:
            msg = f"{path} asks for {name or 'a class that it does not name'}, which is not known here"
            raise UnsupportedModelError(msg, hint=f"use a model with one of {', '.join(DEFAULTS)}")
        settings = cls(path, {**DEFAULTS[name], **given})
        for key in _NOT_FOLLOWED:
            if given.get(key):
                settings.refuse(key, f"is {given[key]!r}, which is not known here")
        return settings

    def refuse(self, key: str, why: str) -> NoReturn:
        msg = f"{key} in {self.path} {why}"
        raise UnsupportedModelError(msg, hint="use a model that reads images of one size, such as clip-ViT-B-32")

    def damaged(self, key: str, expected: str) -> CheckpointError:
        return CheckpointError(f"{key} in {self.path} is {self.values[key]!r}; expected {expected}", hint=PULL_AGAIN)

    def flag(self, key: str) -> bool:
        value = self.values[key]
        if not isinstance(value, bool):
            raise self.damaged(key, "true or false")
        return value

    def number(self, key: str) -> float:
        if not _is_number(self.values[key]):
            raise self.damaged(key, "a number")
        return float(self.values[key])

    def resample(self) -> Any:  # noqa: ANN401 - one of a few numbers, which pydantic checks again
        value = self.values["resample"]
        if type(value) is not int or not 0 <= value <= _MAX_RESAMPLE:
            raise self.damaged("resample", f"a number from 0 to {_MAX_RESAMPLE}")
        return value

    def channels(self, key: str) -> tuple[float, float, float]:
        value = self.values[key]
        numbers = [value] * 3 if _is_number(value) else value
        if not isinstance(numbers, list | tuple) or len(numbers) != 3 or not all(map(_is_number, numbers)):  # noqa: PLR2004 - red, green, blue
            raise self.damaged(key, "a number, or one for each of red, green and blue")
        red, green, blue = map(float, numbers)
        if key == "image_std" and not (red and green and blue):
            raise self.damaged(key, "numbers other than 0")
        return red, green, blue

    def size(self, key: str, *, square: bool, or_shortest: bool = False) -> tuple[tuple[int, int] | None, int | None]:
        """A height and width, or the length of the shorter side alone."""
        value = self.values[key]
        if isinstance(value, list | tuple) and len(value) == 2:  # noqa: PLR2004 - height and width
            value = {"height": value[0], "width": value[1]}
        if not isinstance(value, dict):
            value = {"height": value, "width": value} if square else {"shortest_edge": value}
        sides = {name: side for name, side in value.items() if side is not None}
        if sides.keys() != {"height", "width"} and not (or_shortest and sides.keys() == {"shortest_edge"}):
            self.refuse(key, f"is {self.values[key]!r}, which is not known here")
        if not all(type(side) is int and 0 < side <= _MAX_SIDE for side in sides.values()):
            raise self.damaged(key, f"whole numbers from 1 to {_MAX_SIDE}")
        if "shortest_edge" in sides:
            return None, sides["shortest_edge"]
        return (sides["height"], sides["width"]), None


def _class_named(given: Mapping[str, Any], folder: Path) -> str:
    named = given.get("image_processor_type") or str(given.get("feature_extractor_type") or "").replace(
        "FeatureExtractor", "ImageProcessor"
    )
    if not named:
        config = read_json(folder / "config.json")
        named = config.get("image_processor_type") or _CLASS_OF_MODEL.get(str(config.get("model_type")), "")
    # Two ways to run the same steps.
    return str(named).removesuffix("Fast").removesuffix("Pil")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_NUMBER  # no NaN
