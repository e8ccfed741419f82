"""How a checkpoint wants images, as its files say it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from langchain_localhf.checkpoint.images import DEFAULTS, ImagePreparation
from langchain_localhf.errors import CheckpointError, IncompleteModelError, LocalHFError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

CLIP = ImagePreparation(
    shortest_edge=224,
    crop_to=(224, 224),
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
SIGLIP = ImagePreparation(resize_to=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
# As it lies beside the first CLIP models, clip-ViT-B-32 among them.
FIRST_CLIP = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}


def with_pillow(name: str) -> Any:
    """The class of transformers that does this with Pillow; its name depends on the version."""
    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


def written(folder: Path, content: object, name: str = "preprocessor_config.json") -> Path:
    """The folder, with this file in it."""
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


class TestRead:
    """What the files may say."""

    @pytest.mark.parametrize(("name", "expected"), [("CLIPImageProcessor", CLIP), ("SiglipImageProcessor", SIGLIP)])
    def test_as_transformers_saves_it(self, name: str, expected: ImagePreparation, tmp_path: Path) -> None:
        """A processor that transformers has saved is read whole."""
        with_pillow(name)().save_pretrained(tmp_path)
        assert ImagePreparation.read(tmp_path) == expected

    @pytest.mark.parametrize("name", DEFAULTS)
    def test_defaults(self, name: str, tmp_path: Path) -> None:
        """What a file leaves out is what transformers takes for it."""
        with_pillow(name)().save_pretrained(tmp_path)
        stated = ImagePreparation.read(tmp_path)
        assert ImagePreparation.read(written(tmp_path, {"image_processor_type": name})) == stated

    @pytest.mark.parametrize("suffix", ["", "Fast", "Pil"])
    def test_other_names(self, suffix: str, tmp_path: Path) -> None:
        """The names of the same steps on another library are known."""
        assert ImagePreparation.read(written(tmp_path, {"image_processor_type": f"CLIPImageProcessor{suffix}"})) == CLIP

    def test_first_clip(self, tmp_path: Path) -> None:
        """The file of the first models is read: bare numbers, and the class under its old name."""
        assert ImagePreparation.read(written(tmp_path, FIRST_CLIP)) == CLIP

    @pytest.mark.parametrize(("model_type", "expected"), [("clip", CLIP), ("siglip", SIGLIP)])
    def test_class_from_the_model(self, model_type: str, expected: ImagePreparation, tmp_path: Path) -> None:
        """Where the file names no class, the model's architecture does."""
        written(tmp_path, {"model_type": model_type}, "config.json")
        assert ImagePreparation.read(written(tmp_path, {})) == expected

    def test_part_of_the_processor_comes_first(self, tmp_path: Path) -> None:
        """As in transformers, the part in processor_config.json counts, if there is one."""
        written(tmp_path, {"image_processor_type": "CLIPImageProcessor", "size": 99})
        written(tmp_path, {"processor_class": "CLIPProcessor"}, "processor_config.json")
        assert ImagePreparation.read(tmp_path).shortest_edge == 99
        part = {"image_processor_type": "CLIPImageProcessor", "size": 33}
        written(tmp_path, {"image_processor": part, "processor_class": "CLIPProcessor"}, "processor_config.json")
        assert ImagePreparation.read(tmp_path).shortest_edge == 33

    @pytest.mark.parametrize(
        ("stated", "expected"),
        [
            ({"size": 64}, {"shortest_edge": 64}),
            ({"size": {"shortest_edge": 64}}, {"shortest_edge": 64}),
            ({"size": {"height": 64, "width": 48}}, {"shortest_edge": None, "resize_to": (64, 48)}),
            ({"size": [64, 48]}, {"shortest_edge": None, "resize_to": (64, 48)}),
            ({"size": 64, "default_to_square": True}, {"shortest_edge": None, "resize_to": (64, 64)}),
            ({"do_resize": False}, {"shortest_edge": None}),
            ({"size": {"height": 9, "width": 9}, "do_center_crop": False}, {"resize_to": (9, 9), "crop_to": None}),
            ({"crop_size": 100}, {"crop_to": (100, 100)}),
            ({"crop_size": {"height": 10, "width": 20}}, {"crop_to": (10, 20)}),
            ({"resample": 2}, {"resample": 2}),
            ({"rescale_factor": 1}, {"scale": 1.0}),
            ({"do_rescale": False}, {"scale": 1.0}),
            ({"image_mean": 0.5}, {"mean": (0.5, 0.5, 0.5)}),
            ({"do_normalize": False}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
            ({"size": None, "resample": None, "do_pad": None, "crop_pct": None}, {}),
            ({"do_pad": False, "do_convert_rgb": False, "_valid_processor_keys": ["images"]}, {}),
        ],
    )
    def test_settings(self, stated: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
        """Every setting is followed; null stands for the default."""
        read = ImagePreparation.read(written(tmp_path, {"image_processor_type": "CLIPImageProcessor"} | stated))
        changed = {name: expected.get(name, getattr(CLIP, name)) for name in ImagePreparation.model_fields}
        if "resize_to" in expected:
            changed["shortest_edge"] = None
        assert read.model_dump() == changed


class TestRefuse:
    """What is not done by halves."""

    def test_nothing_there(self, tmp_path: Path) -> None:
        """A missing file is named."""
        with pytest.raises(IncompleteModelError, match=r"preprocessor_config\.json is missing") as caught:
            ImagePreparation.read(tmp_path)
        assert caught.value.missing == ("preprocessor_config.json",)

    @pytest.mark.parametrize(
        ("stated", "named"),
        [
            ({"image_processor_type": "Siglip2ImageProcessor"}, "Siglip2ImageProcessor"),
            ({"image_processor_type": "ConvNextImageProcessor"}, "ConvNextImageProcessor"),
            ({"image_processor_type": None}, "a class that it does not name"),
            ({"crop_pct": 0.875}, "crop_pct"),
            ({"do_pad": True}, "do_pad"),
            ({"use_square_size": True}, "use_square_size"),
            ({"auto_map": {"AutoImageProcessor": "mine.Mine"}}, "auto_map"),
            ({"size": {"shortest_edge": 224, "longest_edge": 400}}, "size"),
            ({"size": {"longest_edge": 400}}, "size"),
            ({"size": {"max_height": 4, "max_width": 4}}, "size"),
            ({"size": {"min_pixels": 4, "max_pixels": 4}}, "size"),
            ({"crop_size": {"shortest_edge": 224}}, "crop_size"),
            ({"do_center_crop": False}, "images of several sizes"),
            ({"do_center_crop": False, "do_resize": False}, "images of several sizes"),
        ],
    )
    def test_unknown(self, stated: dict[str, Any], named: str, tmp_path: Path) -> None:
        """What would change an image in a way that is not known here is named, with its file."""
        written(tmp_path, {"image_processor_type": "CLIPImageProcessor"} | stated)
        with pytest.raises(UnsupportedModelError, match=named) as caught:
            ImagePreparation.read(tmp_path)
        assert "preprocessor_config.json" in caught.value.message
        assert caught.value.hint

    @pytest.mark.parametrize(
        "stated",
        [
            {"size": "224"},
            {"size": 0},
            {"size": 2.5},
            {"size": True},
            {"size": 10**9},
            {"crop_size": [-1, 1]},
            {"resample": 6},
            {"resample": "bicubic"},
            {"resample": True},
            {"do_resize": "yes"},
            {"do_normalize": 1},
            {"rescale_factor": "1/255"},
            {"rescale_factor": float("nan")},
            {"rescale_factor": float("inf")},
            {"rescale_factor": 10**400},
            {"image_mean": [0.5, 0.5]},
            {"image_mean": [0.5, 0.5, None]},
            {"image_std": [1, 1, 0]},
            {"image_std": True},
        ],
    )
    def test_damaged(self, stated: dict[str, Any], tmp_path: Path) -> None:
        """What is no such value is named, and never taken for one."""
        written(tmp_path, {"image_processor_type": "CLIPImageProcessor"} | stated)
        with pytest.raises(CheckpointError, match=f"^{next(iter(stated))} in ") as caught:
            ImagePreparation.read(tmp_path)
        assert not isinstance(caught.value, UnsupportedModelError)

    @pytest.mark.parametrize("content", ["{", "[]", '{"image_processor": 3}'])
    def test_no_settings(self, content: str, tmp_path: Path) -> None:
        """A file that holds no object of settings is damaged."""
        name = "processor_config.json" if "image_processor" in content else "preprocessor_config.json"
        (tmp_path / name).write_text(content)
        with pytest.raises(CheckpointError, match=name):
            ImagePreparation.read(tmp_path)

    @given(
        st.dictionaries(
            st.sampled_from([*DEFAULTS["CLIPImageProcessor"], "image_processor_type", "do_pad"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["height", "width", "shortest_edge"]), inner)
                ),
            ),
        )
    )
    def test_anything(self, tmp_path_factory: pytest.TempPathFactory, stated: dict[str, Any]) -> None:
        """Whatever stands there is followed, or refused with an error of this package."""
        folder = written(tmp_path_factory.mktemp("any"), {"image_processor_type": "CLIPImageProcessor"} | stated)
        try:
            height, width = ImagePreparation.read(folder).shape
        except LocalHFError:
            return
        assert height > 0 < width
