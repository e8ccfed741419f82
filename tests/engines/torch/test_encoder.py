"""Texts to vectors with sentence-transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from support import checkpoints, language_models
from support.checkpoints import edit_json, edit_weights, without
from transformers import AutoModel, AutoTokenizer

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines import installed, open_encoder
from langchain_localhf.engines.base import PROBE_TEXTS
from langchain_localhf.engines.torch import embedding_model
from langchain_localhf.engines.torch.encoder import TorchEncoder
from langchain_localhf.errors import (
    CheckpointError,
    DeviceUnavailableError,
    EngineNotInstalledError,
    IncompleteModelError,
    UnsafeModelError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_localhf.engines.base import InputKind

TEXTS = ["a red ship sails at dawn", "tax", "the quarterly report"]


def _open(folder: Path, pooling: str | None = None, name: str = "tiny", **model_kwargs: Any) -> TorchEncoder:
    return TorchEncoder(
        Checkpoint.read(folder), name=name, pooling=pooling, model_kwargs={"device": "cpu", **model_kwargs}
    )


def _encode(
    encoder: TorchEncoder, texts: list[str] = TEXTS, kind: InputKind = "document", **settings: Any
) -> np.ndarray:
    return encoder.encode(texts, kind=kind, encode_kwargs=settings)


def _theirs(folder: Path, **settings: Any) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", **settings)


class TestVectors:
    """The same vectors as sentence-transformers gives."""

    def test_a_model(self, tiny: Path) -> None:
        """Bit for bit, and so are the probe vectors."""
        encoder, theirs = _open(tiny), _theirs(tiny)
        assert np.array_equal(_encode(encoder), theirs.encode_document(TEXTS))
        assert np.array_equal(_encode(encoder, kind="query"), theirs.encode_query(TEXTS))
        assert np.array_equal(encoder.probe_vectors, theirs.encode_document(list(PROBE_TEXTS)))
        assert (encoder.dimension, encoder.max_seq_length, encoder.unused_weights) == (32, 64, ())
        assert encoder.probe_vectors.dtype == np.float32

    def test_sharded_weights(self, tiny: Path, tmp_path: Path) -> None:
        """Weights in several files are the same weights."""
        assert np.array_equal(_encode(_open(checkpoints.sharded(tmp_path / "sharded"))), _encode(_open(tiny)))

    def test_old_names_of_layer_norms(self, tiny: Path, tmp_path: Path) -> None:
        """`gamma` and `beta`, as early checkpoints call them, are the weight and the bias."""
        old = checkpoints.sentence_transformer(tmp_path / "old")
        edit_weights(old, checkpoints.renamed("LayerNorm.weight", "LayerNorm.gamma"))
        edit_weights(old, checkpoints.renamed("LayerNorm.bias", "LayerNorm.beta"))
        assert any("gamma" in name for name in Checkpoint.read(old).tensors)
        assert np.array_equal(_encode(_open(old)), _encode(_open(tiny)))

    def test_a_dense_layer(self, tmp_path: Path) -> None:
        """A model that ends in a dense layer has that layer's dimension."""
        folder = checkpoints.with_dense(tmp_path / "dense")
        encoder = _open(folder)
        assert encoder.dimension == 8
        assert np.array_equal(_encode(encoder), _theirs(folder).encode_document(TEXTS))

    def test_a_model_without_a_transformer(self, tmp_path: Path) -> None:
        """Static vectors of tokens need no transformer."""
        folder = checkpoints.static(tmp_path / "static")
        assert np.array_equal(_encode(_open(folder)), _theirs(folder).encode_document(TEXTS))

    def test_a_router(self, tmp_path: Path) -> None:
        """Queries and documents take their own ways; the probe vectors are those of documents."""
        folder = checkpoints.routed(tmp_path / "routed")
        encoder, theirs = _open(folder), _theirs(folder)
        assert np.array_equal(_encode(encoder, kind="query"), theirs.encode_query(TEXTS))
        assert np.array_equal(_encode(encoder), theirs.encode_document(TEXTS))
        assert not np.allclose(_encode(encoder), _encode(encoder, kind="query"))
        assert np.array_equal(encoder.probe_vectors, theirs.encode_document(list(PROBE_TEXTS)))

    def test_both_ways_of_a_router_are_proved(self, tmp_path: Path) -> None:
        """A weight that only queries pass is looked at, too."""
        folder = checkpoints.routed(tmp_path / "routed")
        edit_weights(folder / "query_0_Transformer", without("encoder.layer.1.output.dense.bias"))
        with pytest.raises(CheckpointError, match=r"query\.0\.model\.encoder\.layer\.1\.output\.dense\.bias"):
            _open(folder)

    @pytest.mark.parametrize("pooling", ["mean", "cls"])
    def test_a_plain_checkpoint_with_a_stated_pooling(self, tmp_path: Path, pooling: str) -> None:
        """Equal to pooling by hand over the vectors of transformers' own model."""
        folder = checkpoints.plain(tmp_path / "plain")
        model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
        with torch.inference_mode():
            tokens = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        expected = tokens[:, 0] if pooling == "cls" else (tokens * mask).sum(1) / mask.sum(1)
        assert np.allclose(_encode(_open(folder, pooling=pooling)), expected.numpy(), atol=1e-5)

    def test_a_plain_checkpoint_without_a_padding_token(self, tmp_path: Path) -> None:
        """A language model may name none; the settings of the hint make it run."""
        folder = language_models.copy("gpt2", tmp_path / "gpt2")
        with pytest.raises(CheckpointError, match="names no padding token") as caught:
            _open(folder, pooling="mean")
        named = {"config_kwargs": {"pad_token_id": 0}, "processor_kwargs": {"pad_token": "<|endoftext|>"}}
        assert all(name in str(caught.value.hint) for name in named)
        assert np.isfinite(_encode(_open(folder, pooling="mean", **named))).all()

    def test_a_plain_checkpoint_takes_all_settings(self, tmp_path: Path) -> None:
        """Nested settings and prompts reach the parts that are put together here."""
        folder = checkpoints.plain(tmp_path / "plain")
        (folder / "config_sentence_transformers.json").write_text('{"prompts": {"passage": "red "}}')
        encoder = _open(
            folder,
            pooling="mean",
            truncate_dim=4,
            tokenizer_kwargs={"model_max_length": 16},
            config_kwargs={"hidden_dropout_prob": 0.0},
            model_kwargs={"dtype": torch.bfloat16},
            prompts={"query": "blue "},
        )
        assert (encoder.dimension, encoder._model.dtype) == (4, torch.bfloat16)
        assert encoder._model.tokenizer.model_max_length == 16
        assert np.array_equal(_encode(encoder, ["ship"]), _encode(encoder, ["red ship"], prompt=""))
        assert np.array_equal(_encode(encoder, ["ship"], "query"), _encode(encoder, ["blue ship"], prompt=""))

    @pytest.mark.parametrize(
        ("settings", "shape", "dtype"),
        [
            ({"truncate_dim": 8}, (3, 8), np.float32),
            ({"model_kwargs": {"dtype": torch.bfloat16}}, (3, 32), np.float32),
            ({"tokenizer_kwargs": {"model_max_length": 8}}, (3, 32), np.float32),
        ],
    )
    def test_settings_pass_through(
        self, tiny: Path, settings: dict[str, Any], shape: tuple[int, int], dtype: type
    ) -> None:
        """What `SentenceTransformer(...)` takes has the effect that it has there."""
        vectors = _encode(_open(tiny, **settings))
        assert (vectors.shape, vectors.dtype) == (shape, dtype)
        # In half precision a sum depends on how the threads share it; in single precision that is far below the bound.
        tolerance = 1e-2 if "model_kwargs" in settings else 1e-6
        assert np.allclose(vectors, _theirs(tiny, **settings).encode_document(TEXTS), rtol=0, atol=tolerance)

    def test_pickle_that_lies_beside_the_weights(self, tiny: Path) -> None:
        """The user cannot ask for it by accident either."""
        with pytest.raises(UnsafeModelError, match="use_safetensors=False would read weights as pickle"):
            _open(tiny, model_kwargs={"use_safetensors": False})

    @pytest.mark.parametrize(
        "settings",
        [{"convert_to_tensor": True}, {"convert_to_numpy": False}, {"batch_size": 1}, {"normalize_embeddings": True}],
    )
    def test_every_form_of_the_result_is_a_matrix(self, tiny: Path, settings: dict[str, Any]) -> None:
        """Tensors and lists of tensors become the same matrix."""
        encoder = _open(tiny)
        assert np.allclose(_encode(encoder, **settings), _encode(encoder), atol=1e-6)

    @pytest.mark.parametrize("output", ["token_embeddings", None])
    def test_what_is_not_one_vector_a_text(self, tiny: Path, output: str | None) -> None:
        """Settings that give something else are refused."""
        with pytest.raises(UnsupportedModelError, match="one vector a text"):
            _encode(_open(tiny), output_value=output)


class TestPrompts:
    """Prompts that the model was saved with, or that the user states."""

    @pytest.mark.parametrize(
        "prompts",
        [
            {"passage": "red "},
            {"query": "", "document": "", "passage": "red "},
            {"corpus": "red "},
            {"document": "red ", "passage": "blue "},
        ],
    )
    def test_a_saved_prompt_for_documents_applies(self, tmp_path: Path, prompts: dict[str, str]) -> None:
        """sentence-transformers 6 hides a saved `passage` behind an empty `document` of its own; here it applies."""
        encoder = _open(checkpoints.sentence_transformer(tmp_path / "tiny", prompts=prompts))
        assert np.array_equal(_encode(encoder, ["ship"]), _encode(encoder, ["red ship"], prompt=""))
        assert not np.allclose(_encode(encoder, ["ship"]), _encode(encoder, ["ship"], prompt=""))

    def test_a_saved_prompt_for_queries_applies(self, tmp_path: Path) -> None:
        """Queries get theirs, documents do not."""
        encoder = _open(checkpoints.sentence_transformer(tmp_path / "tiny", prompts={"query": "red "}))
        assert np.array_equal(_encode(encoder, ["ship"], "query"), _encode(encoder, ["red ship"]))

    def test_the_users_prompts_win(self, tmp_path: Path) -> None:
        """`model_kwargs["prompts"]` over what was saved; `prompt` and `prompt_name` of a call over both."""
        folder = checkpoints.sentence_transformer(tmp_path / "tiny", prompts={"passage": "red ", "code": "green "})
        encoder = _open(folder, prompts={"passage": "blue "})
        assert np.array_equal(_encode(encoder, ["ship"]), _encode(encoder, ["blue ship"], prompt=""))
        assert np.array_equal(
            _encode(encoder, ["ship"], prompt_name="code"), _encode(encoder, ["green ship"], prompt="")
        )

    def test_models_known_to_leave_the_prompt_out_of_the_mean(self, tiny: Path) -> None:
        """sentence-transformers knows them by their repository, and a folder has none."""
        encoder = _open(tiny, name="hkunlp/instructor-base", prompts={"document": "red "})
        assert not np.allclose(_encode(encoder, ["ship"]), _encode(_open(tiny, prompts={"document": "red "}), ["ship"]))


class TestRefused:
    """What cannot be loaded, or not here."""

    @pytest.mark.parametrize(
        ("device", "message"), [("cuda:99", "no device 'cuda:99'"), ("mps", "no device 'mps'"), ("gpu", "is no device")]
    )
    def test_devices_that_are_not_here(self, tiny: Path, device: str, message: str) -> None:
        """A device that is none, or is not on this machine, is refused before anything is loaded."""
        with pytest.raises(DeviceUnavailableError, match=message):
            _open(tiny, device=device)

    def test_a_device_is_optional(self, tiny: Path) -> None:
        """Without one, sentence-transformers chooses."""
        assert _open(tiny, device=None).dimension == 32

    def test_a_part_that_does_not_fit(self, tmp_path: Path) -> None:
        """What a library underneath finds wrong is an error of the checkpoint, with its words."""
        folder = checkpoints.with_dense(tmp_path / "dense")
        weights = folder / "2_Dense" / "model.safetensors"
        save_file({name: tensor for name, tensor in load_file(weights).items() if "bias" not in name}, weights)
        with pytest.raises(CheckpointError, match=r"2_Dense|linear\.bias"):
            _open(folder)

    def test_settings_that_the_library_does_not_know(self, tiny: Path) -> None:
        """A misspelt setting is the library's own TypeError, as it is there."""
        with pytest.raises(TypeError, match="devise"):
            _open(tiny, devise="cpu")

    def test_too_little_memory_is_no_fault_of_the_model(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error of torch itself passes through."""

        def out_of_memory(*arguments: Any, **settings: Any) -> None:
            raise torch.OutOfMemoryError

        monkeypatch.setattr(embedding_model, "SentenceTransformer", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            _open(tiny)

    def test_code_in_another_repository(self, tiny: Path) -> None:
        """Trusted code that is not on this machine is not fetched."""
        edit_json(tiny / "config.json", auto_map={"AutoConfig": "org/code--c.C", "AutoModel": "org/code--m.M"})
        edit_json(tiny / "config.json", model_type="own")
        with pytest.raises(IncompleteModelError, match="of org/code"):
            _open(tiny, trust_remote_code=True)


class TestProcesses:
    """Several processes."""

    def test_one_pool_until_it_is_closed(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The pool starts with the first call that needs it, is handed to every call, and can start again."""
        started: list[dict[str, Any]] = []
        stopped: list[dict[str, Any]] = []
        encoder = _open(tiny)

        def start() -> dict[str, Any]:
            started.append({"number": len(started)})
            return started[-1]

        monkeypatch.setattr(encoder._model, "start_multi_process_pool", start)
        monkeypatch.setattr(SentenceTransformer, "stop_multi_process_pool", stopped.append)
        monkeypatch.setattr(
            encoder._model, "encode_document", lambda inputs, **settings: np.array([settings["pool"]["number"]])
        )
        settings: dict[str, Any] = {"kind": "document", "encode_kwargs": {}, "multi_process": True}
        assert [int(encoder.encode(TEXTS, **settings)[0]) for _ in range(2)] == [0, 0]
        encoder.close()
        encoder.close()
        assert int(encoder.encode(TEXTS, **settings)[0]) == 1
        del encoder
        assert stopped == started == [{"number": 0}, {"number": 1}]


class TestEngines:
    """The choice of an engine."""

    def test_an_unknown_engine(self, tiny: Path) -> None:
        """The error names those that there are."""
        with pytest.raises(UnsupportedModelError, match="torch"):
            open_encoder(Checkpoint.read(tiny), name="tiny", pooling=None, model_kwargs={}, backend="onnx")

    def test_an_engine_that_is_not_installed(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The hint is the command that installs it."""
        monkeypatch.setattr("langchain_localhf.engines.find_spec", lambda name: None)
        assert installed() is False
        with pytest.raises(EngineNotInstalledError) as caught:
            open_encoder(Checkpoint.read(tiny), name="tiny", pooling=None, model_kwargs={})
        assert caught.value.hint == 'pip install "langchain-localhf[torch]"'
