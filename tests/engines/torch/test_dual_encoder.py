"""Dual encoders in torch: texts and images in one space, with the vectors of sentence-transformers and transformers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Transformer
from support import checkpoints, dual_encoders
from support.checkpoints import edit_json, edit_weights, without
from support.dual_encoders import picture
from transformers import AutoModel, AutoTokenizer

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines import open_encoder
from langchain_localhf.engines.images import prepared
from langchain_localhf.engines.torch import images
from langchain_localhf.engines.torch.encoder import TorchEncoder
from langchain_localhf.errors import (
    CheckpointError,
    EngineNotInstalledError,
    UninitializedWeightsError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

_LONG = "the harbour at dawn " * 100
_TEXTS = ["the weather is nice", "a", "Quarterly report: 1 ship, é & 漢", _LONG, ""]
_PICTURES = [picture(seed, size) for seed, size in enumerate([(48, 40), (32, 32), (200, 33), (7, 90), (1, 1)])]
_CLIPS = [
    dual_encoders.clip,
    dual_encoders.st_clip,
    dual_encoders.st_clip_in_root,
    dual_encoders.st_clip_saved_anew,
]
_ALL = [*_CLIPS, dual_encoders.siglip]


def _open(folder: Path, **model_kwargs: Any) -> TorchEncoder:
    checkpoint = Checkpoint.read(folder)
    checkpoint.require_trust()
    checkpoint.require_encoder()
    return TorchEncoder(checkpoint, name="tiny", pooling=None, model_kwargs={"device": "cpu", **model_kwargs})


def _embed(encoder: TorchEncoder, texts: Sequence[str], **encode_kwargs: Any) -> NDArray[np.number[Any]]:
    return encoder.encode(texts, kind="document", encode_kwargs=encode_kwargs)


def _pixels(encoder: TorchEncoder) -> NDArray[np.uint8]:
    assert encoder.image_preparation is not None
    return np.stack([prepared(image, encoder.image_preparation) for image in _PICTURES])


def _reference(folder: Path) -> SentenceTransformer:
    """The same model, as a user would load it without this package."""
    if (folder / "modules.json").is_file():
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return SentenceTransformer(modules=[Transformer(str(folder))], device="cpu")


def _text_features(folder: Path, texts: list[str], **settings: Any) -> NDArray[np.float32]:
    """What transformers itself gives, with a tokenizer that is told everything."""
    tokens = AutoTokenizer.from_pretrained(folder)(texts, truncation=True, return_tensors="pt", **settings)
    with torch.inference_mode():
        features = AutoModel.from_pretrained(folder).get_text_features(**tokens)
    return np.asarray(getattr(features, "pooler_output", features))


class TestTexts:
    """The text tower."""

    @pytest.mark.parametrize("build", _CLIPS)
    def test_vectors_of_sentence_transformers(self, build: Callable[[Path], Path], tmp_path: Path) -> None:
        """Texts of any length that the library can read have its vectors."""
        folder = build(tmp_path / "model")
        short = [text for text in _TEXTS if text != _LONG]
        assert np.allclose(_embed(_open(folder), short), _reference(folder).encode(short), atol=1e-6)

    @pytest.mark.parametrize("build", _CLIPS)
    def test_vectors_of_transformers(self, build: Callable[[Path], Path], tmp_path: Path) -> None:
        """The mask is used, and 77 tokens of a long text are, also where no file says how many."""
        folder = build(tmp_path / "model")
        inner = folder / "0_CLIPModel" if (folder / "0_CLIPModel").is_dir() else folder
        encoder = _open(folder)
        expected = _text_features(inner, _TEXTS, padding=True, max_length=77)
        assert encoder.max_seq_length == 77
        assert np.allclose(_embed(encoder, _TEXTS), expected, atol=1e-5)

    def test_a_limit_that_the_model_cannot_keep(self, tmp_path: Path) -> None:
        """A user can lower the limit, but not raise it above what the model has positions for."""
        folder = dual_encoders.clip(tmp_path / "clip")
        assert _open(folder, processor_kwargs={"model_max_length": 500}).max_seq_length == 77
        lower = _open(folder, processor_kwargs={"model_max_length": 5})
        assert lower.max_seq_length == 5
        assert np.allclose(_embed(lower, [_LONG]), _text_features(folder, [_LONG], max_length=5), atol=1e-5)

    def test_siglip_is_always_padded(self, tmp_path: Path) -> None:
        """Every text is as long as those it was trained with, so its vector does not depend on its neighbours."""
        folder = dual_encoders.siglip(tmp_path / "siglip")
        encoder = _open(folder)
        expected = _text_features(folder, _TEXTS, padding="max_length", max_length=64)
        assert encoder.max_seq_length == 64
        assert np.allclose(_embed(encoder, _TEXTS), expected, atol=1e-5)
        assert np.allclose(_embed(encoder, _TEXTS[:1]), expected[:1], atol=1e-5)

    def test_the_tokenizer_of_siglip_itself(self, tmp_path: Path) -> None:
        """Its own repositories hold a file of sentencepiece, which transformers reads in Python."""
        folder = dual_encoders.siglip_with_sentencepiece(tmp_path / "siglip")
        encoder = _open(folder)
        expected = _text_features(folder, _TEXTS, padding="max_length", max_length=64)
        assert np.allclose(_embed(encoder, _TEXTS), expected, atol=1e-5)
        assert encoder.count_tokens(_TEXTS[3:])[0] > 64

    @pytest.mark.parametrize("library", ["SentencePiece", "protobuf"])
    def test_without_its_library(self, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error says what to install."""

        def missing(*_: object, **__: object) -> None:
            raise ImportError(f"SiglipTokenizer requires the {library} library but it was not found")

        monkeypatch.setattr("sentence_transformers.base.modules.transformer.AutoProcessor.from_pretrained", missing)
        with pytest.raises(EngineNotInstalledError, match=library.lower()) as caught:
            _open(dual_encoders.siglip(tmp_path / "siglip"))
        assert caught.value.hint == 'pip install "langchain-localhf[image]"'

    def test_siglip_reads_no_mask(self, tmp_path: Path) -> None:
        """It was trained without one, whatever the tokenizer offers."""
        folder = dual_encoders.siglip(tmp_path / "siglip")
        before = _embed(_open(folder), _TEXTS)
        edit_json(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
        assert np.array_equal(_embed(_open(folder), _TEXTS), before)

    @pytest.mark.parametrize("build", [dual_encoders.clip, dual_encoders.siglip])
    @pytest.mark.parametrize("text", ["https://example.invalid/cat.png", "cat.png", "data:image/png;base64,AAAA"])
    def test_a_text_that_looks_like_an_image(self, build: Callable[[Path], Path], text: str, tmp_path: Path) -> None:
        """It is embedded as a text; nothing is opened or fetched."""
        folder = build(tmp_path / "model")
        picture().save(tmp_path / "cat.png")
        settings = {"padding": "max_length", "max_length": 64} if build is dual_encoders.siglip else {}
        expected = _text_features(folder, [text], **settings)
        assert np.allclose(_embed(_open(folder), [text]), expected, atol=1e-5)

    def test_another_text_tower(self, tmp_path: Path) -> None:
        """A model for texts whose vectors lie in the space of a CLIP is an embedding model as any other."""
        folder = dual_encoders.text_tower(tmp_path / "tower")
        encoder = _open(folder)
        assert (encoder.dimension, encoder.image_preparation) == (dual_encoders.DIMENSION, None)
        assert np.allclose(_embed(encoder, _TEXTS), _reference(folder).encode(_TEXTS), atol=1e-5)


class TestImages:
    """The image tower."""

    @pytest.mark.parametrize("build", _ALL)
    def test_vectors_of_sentence_transformers(self, build: Callable[[Path], Path], tmp_path: Path) -> None:
        """Pictures of any shape have the vectors that the library gives them with its processor for Pillow."""
        folder = build(tmp_path / "model")
        encoder = _open(folder)
        vectors = encoder.encode_images(_pixels(encoder), encode_kwargs={})
        assert np.allclose(vectors, _reference(folder).encode(list(_PICTURES)), atol=1e-5)
        assert vectors.dtype == np.float32

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
    def test_batches(self, batch_size: int, tmp_path: Path) -> None:
        """The size of a batch changes neither the order nor the vectors."""
        encoder = _open(dual_encoders.clip(tmp_path / "clip"))
        pixels = _pixels(encoder)
        batched = encoder.encode_images(pixels, encode_kwargs={"batch_size": batch_size})
        assert np.allclose(batched, encoder.encode_images(pixels, encode_kwargs={}), atol=1e-5)

    def test_an_impossible_batch(self, tmp_path: Path) -> None:
        """The library's own error, as for texts."""
        encoder = _open(dual_encoders.clip(tmp_path / "clip"))
        with pytest.raises(ValueError, match="batch_size"):
            encoder.encode_images(_pixels(encoder), encode_kwargs={"batch_size": 0})

    @pytest.mark.parametrize(
        "settings",
        [
            {"normalize_embeddings": True},
            {"truncate_dim": 5},
            {"truncate_dim": 8, "normalize_embeddings": True},
            {"precision": "binary"},
            {"precision": "ubinary"},
            {"prompt": "a photo of "},
        ],
    )
    def test_settings(self, settings: dict[str, Any], tmp_path: Path) -> None:
        """They change the vector of an image as they change that of a text."""
        folder = dual_encoders.clip(tmp_path / "clip")
        encoder = _open(folder)
        vectors = encoder.encode_images(_pixels(encoder), encode_kwargs=settings)
        expected = _reference(folder).encode(list(_PICTURES), **settings)
        assert vectors.dtype == expected.dtype
        assert np.allclose(vectors, expected, atol=1e-5)

    def test_fewer_dimensions_for_both(self, tmp_path: Path) -> None:
        """What the model is loaded with holds for texts and images."""
        encoder = _open(dual_encoders.clip(tmp_path / "clip"), truncate_dim=6)
        assert encoder.encode_images(_pixels(encoder), encode_kwargs={}).shape[1] == encoder.dimension == 6

    def test_parts_behind_the_towers(self, tmp_path: Path) -> None:
        """A dense layer and a normalisation run for images, too."""
        torch.manual_seed(0)
        plain = Transformer(str(dual_encoders.clip(tmp_path / "clip")))
        modules = [plain, Dense(dual_encoders.DIMENSION, 4), Normalize()]
        folder = tmp_path / "longer"
        SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
        encoder = _open(folder)
        vectors = encoder.encode_images(_pixels(encoder), encode_kwargs={})
        assert vectors.shape == (len(_PICTURES), 4)
        assert np.allclose(vectors, _reference(folder).encode(list(_PICTURES)), atol=1e-5)

    def test_the_processor_of_the_library_is_another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pixels that transformers would make otherwise are refused, when the model is loaded."""
        folder = dual_encoders.clip(tmp_path / "clip")
        monkeypatch.setattr(images, "prepared", lambda image, preparation: prepared(image, preparation)[:, ::-1])
        with pytest.raises(UnsupportedModelError, match="CLIPImageProcessor"):
            _open(folder)

    def test_another_processor_of_the_user(self, tmp_path: Path) -> None:
        """What would prepare images in another way than the files say is refused, and not left out of account."""
        folder = dual_encoders.clip(tmp_path / "clip")
        with pytest.raises(UnsupportedModelError) as caught:
            _open(folder, processor_kwargs={"size": {"shortest_edge": 64}})
        assert "processor_kwargs" in str(caught.value.hint)

    def test_half_precision(self, tmp_path: Path) -> None:
        """Pixels follow the type of the weights, and vectors come as 32 bits."""
        folder = dual_encoders.clip(tmp_path / "clip")
        full, half = _open(folder), _open(folder, model_kwargs={"dtype": "bfloat16"})
        expected, vectors = (encoder.encode_images(_pixels(encoder), encode_kwargs={}) for encoder in (full, half))
        assert vectors.dtype == np.float32
        assert 0 < np.abs(vectors - expected).max() < 0.5

    def test_a_model_for_texts(self, tiny: Path) -> None:
        """It has no way to prepare an image, and takes none."""
        encoder = _open(tiny)
        assert encoder.image_preparation is None
        with pytest.raises(UnsupportedModelError, match="texts only"):
            encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8), encode_kwargs={})

    def test_many_threads(self, tmp_path: Path) -> None:
        """Texts and images at the same time have the vectors that they have alone."""
        encoder = _open(dual_encoders.st_clip(tmp_path / "clip"))
        pixels = _pixels(encoder)
        texts, pictures = _embed(encoder, _TEXTS), encoder.encode_images(pixels, encode_kwargs={})

        def work(number: int) -> bool:
            if number % 2:
                return np.array_equal(_embed(encoder, _TEXTS), texts)
            return np.array_equal(encoder.encode_images(pixels, encode_kwargs={}), pictures)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(24)))

    def test_without_pillow(self, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A dual encoder cannot even be loaded, and the error says what to install; other models do not need it."""
        monkeypatch.setattr("langchain_localhf.engines.find_spec", lambda name: None if name == "PIL" else object())
        settings: dict[str, Any] = {"name": "tiny", "pooling": None, "model_kwargs": {"device": "cpu"}}
        with pytest.raises(EngineNotInstalledError) as caught:
            open_encoder(Checkpoint.read(dual_encoders.clip(tmp_path / "clip")), **settings)
        assert caught.value.hint == 'pip install "langchain-localhf[image]"'
        assert open_encoder(Checkpoint.read(tiny), **settings).image_preparation is None


@pytest.mark.parametrize("model_type", ["altclip", "chinese_clip", "metaclip_2"])
def test_relatives(model_type: str, tmp_path: Path) -> None:
    """Architectures that were made from CLIP have the vectors of transformers, for texts and images."""
    folder = dual_encoders.relative(tmp_path / "model", model_type)
    encoder = _open(folder)
    texts = [text for text in _TEXTS if text]
    expected = _text_features(folder, texts, padding=True, max_length=encoder.max_seq_length)
    assert np.allclose(_embed(encoder, texts), expected, atol=1e-5)
    vectors = encoder.encode_images(_pixels(encoder), encode_kwargs={})
    assert np.allclose(vectors, _reference(folder).encode(list(_PICTURES)), atol=1e-5)


class TestUnsound:
    """Both towers run with the checkpoint's own weights, or not at all."""

    @pytest.mark.parametrize("build", [dual_encoders.clip, dual_encoders.siglip])
    @pytest.mark.parametrize(
        "part",
        [
            "vision_model.",
            "text_model.",
            "vision_model.encoder.layers.1.mlp.fc1.bias",
            "text_model.encoder.layers.0.self_attn.q_proj.weight",
            "vision_model.embeddings.patch_embedding.weight",
        ],
    )
    def test_missing_weights(self, build: Callable[[Path], Path], part: str, tmp_path: Path) -> None:
        """A missing half, or any tensor of either half, is refused by its name."""
        folder = build(tmp_path / "model")
        edit_weights(folder, without(part))
        with pytest.raises(UninitializedWeightsError) as caught:
            _open(folder)
        assert all(part in name for name in caught.value.missing)

    @pytest.mark.parametrize("part", ["visual_projection", "text_projection"])
    def test_missing_projection(self, part: str, tmp_path: Path) -> None:
        """The last layer of a tower counts as any other; also inside a sentence-transformers model."""
        folder = dual_encoders.st_clip(tmp_path / "model")
        edit_weights(folder / "0_CLIPModel", without(part))
        with pytest.raises(UninitializedWeightsError, match=part):
            _open(folder)

    def test_weights_of_another_model(self, tmp_path: Path) -> None:
        """A tower of another size is refused."""
        folder = dual_encoders.clip(tmp_path / "clip")
        edit_json(folder / "config.json", projection_dim=8)
        with pytest.raises(UninitializedWeightsError, match="projection"):
            _open(folder)

    def test_what_old_checkpoints_hold(self, tmp_path: Path) -> None:
        """Counted positions are no weights, and the scale of the scores changes no vector."""
        folder = dual_encoders.clip(tmp_path / "clip")

        def old(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            del tensors["logit_scale"]
            for tower, length in (("text_model", 77), ("vision_model", 17)):
                tensors[f"{tower}.embeddings.position_ids"] = torch.arange(length).unsqueeze(0)
            return tensors

        before = _embed(_open(folder), _TEXTS)
        edit_weights(folder, old)
        assert "text_model.embeddings.position_ids" in load_file(folder / "model.safetensors")
        encoder = _open(folder)
        assert encoder.unused_weights == ("0.model.logit_scale",)
        assert np.array_equal(_embed(encoder, _TEXTS), before)

    @pytest.mark.parametrize("build", [dual_encoders.clip, dual_encoders.siglip])
    def test_a_tokenizer_of_another_model(self, build: Callable[[Path], Path], tmp_path: Path) -> None:
        """More tokens than the text tower has weights for are refused before a text hits one of them."""
        folder = build(tmp_path / "model")
        words = AutoTokenizer.from_pretrained(folder)
        words.add_tokens(["quarterlyreport"])
        words.save_pretrained(folder)
        with pytest.raises(CheckpointError, match=r"the tokenizer in .* knows"):
            _open(folder)


class TestTokenCounts:
    """How many tokens a text has."""

    @pytest.mark.parametrize("build", [checkpoints.sentence_transformer, *_ALL])
    def test_as_the_tokenizer_counts_them(self, build: Callable[[Path], Path], tmp_path: Path) -> None:
        """Special tokens count, the padding does not, and a long text has all of its tokens; one text or many."""
        folder = build(tmp_path / "model")
        encoder = _open(folder)
        tokenizer = _reference(folder).tokenizer
        expected = [len(tokenizer(text, verbose=False)["input_ids"]) for text in _TEXTS]
        assert encoder.count_tokens(_TEXTS) == expected
        assert [encoder.count_tokens([text])[0] for text in _TEXTS] == expected
        assert encoder.count_tokens([]) == []
        assert max(expected) > encoder.max_seq_length

    def test_without_a_transformer(self, tmp_path: Path) -> None:
        """A model that looks words up has no special tokens, and no limit."""
        encoder = _open(checkpoints.static(tmp_path / "static"))
        assert encoder.count_tokens(["the weather is nice", _LONG]) == [4, 400]

    def test_while_the_model_runs(self, tmp_path: Path) -> None:
        """Whoever plans the next batch does not wait for this one."""
        encoder = _open(dual_encoders.clip(tmp_path / "clip"))
        running, go_on = threading.Event(), threading.Event()

        def wait(*_: object) -> None:
            running.set()
            go_on.wait(30)

        hook = encoder._model.register_forward_pre_hook(wait)
        with ThreadPoolExecutor(1) as pool:
            vectors = pool.submit(_embed, encoder, _TEXTS)
            try:
                assert running.wait(30)
                assert encoder.count_tokens(["the weather is nice"]) == [9]
                assert not vectors.done()
            finally:
                go_on.set()
        hook.remove()
        assert len(vectors.result()) == len(_TEXTS)
