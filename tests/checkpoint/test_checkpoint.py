"""What a model's files say, and what is refused before a framework sees them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support import checkpoints
from support.checkpoints import edit_json

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.errors import CheckpointError, IncompleteModelError, UnsafeModelError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _check(folder: Path, *, trust_remote_code: bool = False, **settings: Any) -> Checkpoint:
    checkpoint = Checkpoint.read(folder)
    checkpoint.require_trust(trust_remote_code=trust_remote_code)
    checkpoint.require_encoder(**settings)
    return checkpoint


class TestRead:
    """What a complete model says."""

    def test_the_real_model(self, minilm: Path) -> None:
        """Modules, pooling, normalisation and tensors of all-MiniLM-L6-v2."""
        checkpoint = _check(minilm)
        assert [module.class_name for module in checkpoint.modules] == ["Transformer", "Pooling", "Normalize"]
        assert (checkpoint.pooling, checkpoint.normalizes) == (("mean",), True)
        assert checkpoint.tensors["embeddings.word_embeddings.weight"].shape == (30522, 384)
        assert (checkpoint.prompts, checkpoint.code) == ({}, ())

    def test_a_tokenizer_in_another_form(self, tiny: Path) -> None:
        """A word list alone is a tokenizer, too."""
        (tiny / "tokenizer.json").rename(tiny / "vocab.txt")
        assert _check(tiny).folder == tiny

    def test_a_router(self, tmp_path: Path) -> None:
        """The ways behind a router are parts of the model, too."""
        checkpoint = _check(checkpoints.routed(tmp_path / "routed"))
        assert [part.path for part in checkpoint.parts[1:]] == [
            "query_0_Transformer",
            "query_1_Pooling",
            "document_0_Transformer",
            "document_1_Pooling",
        ]
        assert [folder.name for folder in checkpoint.transformer_folders] == [
            "query_0_Transformer",
            "document_0_Transformer",
        ]

    def test_a_model_without_a_transformer(self, tmp_path: Path, tiny: Path) -> None:
        """A model of word vectors has neither a config nor tensors of a transformer."""
        folder = tmp_path / "words"
        folder.mkdir()
        (folder / "modules.json").write_text(json.dumps([_module("Normalize", "")]))
        checkpoint = _check(folder)
        assert (checkpoint.config, checkpoint.tensors, checkpoint.pooling) == ({}, {}, ())

    @pytest.mark.parametrize(
        ("config", "pooling"),
        [
            ({"pooling_mode": "lasttoken"}, ("lasttoken",)),
            ({"pooling_mode": ["cls", "mean"]}, ("cls", "mean")),
            ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
            ({"pooling_mode_max_tokens": True, "pooling_mode_cls_token": False}, ("max",)),
        ],
    )
    def test_pooling_in_old_and_new_words(self, tiny: Path, config: dict[str, object], pooling: tuple[str]) -> None:
        """Both forms of the configuration are understood; several modes keep their order."""
        (tiny / "1_Pooling" / "config.json").write_text(json.dumps(config))
        assert _check(tiny).pooling == pooling

    def test_prompts(self, tmp_path: Path) -> None:
        """The prompts that the model was saved with; null is none."""
        folder = checkpoints.sentence_transformer(tmp_path / "tiny", prompts={"query": "query: "})
        assert Checkpoint.read(folder).prompts == {"query": "query: "}


def _module(kind: str, path: str) -> dict[str, object]:
    return {
        "idx": 0,
        "name": "0",
        "path": path,
        "type": kind if "." in kind else f"sentence_transformers.models.{kind}",
    }


def _without(*paths: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in paths:
            (folder / path).unlink()

    return change


def _json(path: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / path, **changes)


def _text(path: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)

    return change


def _modules(*modules: dict[str, object]) -> Callable[[Path], None]:
    return _text("modules.json", json.dumps(modules))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(_without("modules.json"), IncompleteModelError, "has no modules.json", id="no modules.json"),
        pytest.param(
            _without("modules.json", "config.json"), IncompleteModelError, "holds no model", id="nothing at all"
        ),
        pytest.param(
            _without("1_Pooling/config.json"), IncompleteModelError, "1_Pooling/config.json", id="no pooling config"
        ),
        pytest.param(
            _text("1_Pooling/config.json", "{}"), IncompleteModelError, "no pooling mode", id="no pooling mode"
        ),
        pytest.param(_json("1_Pooling/config.json", pooling_mode=5), CheckpointError, "not 5", id="odd pooling mode"),
        pytest.param(_without("config.json"), IncompleteModelError, "config.json is missing", id="no config"),
        pytest.param(_json("config.json", model_type=None), CheckpointError, "has no model_type", id="no model type"),
        pytest.param(_without("model.safetensors"), IncompleteModelError, "no weights", id="no weights"),
        pytest.param(
            _without("tokenizer.json", "tokenizer_config.json"), IncompleteModelError, "no tokenizer", id="no tokenizer"
        ),
        pytest.param(
            _text("tokenizer.json", "{"), CheckpointError, "tokenizer.json is no valid JSON", id="bad tokenizer"
        ),
        pytest.param(_text("config.json", "{"), CheckpointError, "config.json is no valid JSON", id="bad config"),
        pytest.param(_text("config.json", "[" * 100_000), CheckpointError, "no valid JSON", id="deep config"),
        pytest.param(_text("config.json", "[]"), CheckpointError, "should hold a JSON object", id="config is a list"),
        pytest.param(
            _text("modules.json", "{"), CheckpointError, "modules.json is no valid JSON", id="bad modules.json"
        ),
        pytest.param(
            _text("modules.json", "{}"), CheckpointError, "should hold a JSON array", id="modules is an object"
        ),
        pytest.param(_text("modules.json", "[]"), CheckpointError, "lists no modules", id="no modules"),
        pytest.param(_text("modules.json", "[{}]"), CheckpointError, "needs a type and a path", id="odd module"),
        pytest.param(_text("modules.json", "[5]"), CheckpointError, "needs a type and a path", id="module is a number"),
        pytest.param(_modules(_module("Pooling", "../x")), UnsafeModelError, "points outside", id="module outside"),
        pytest.param(_modules(_module("Pooling", "/x")), UnsafeModelError, "points outside", id="absolute module"),
        pytest.param(
            _modules(_module("own.Code", "")), UnsafeModelError, r"own\.Code .*named in modules", id="own code"
        ),
        pytest.param(_modules(_module("Router", "")), CheckpointError, "where it leads", id="router to nowhere"),
        pytest.param(
            _text("config_sentence_transformers.json", "{"), CheckpointError, "no valid JSON", id="bad settings"
        ),
        pytest.param(
            _json("config_sentence_transformers.json", prompts=["x"]), CheckpointError, "prompts as texts", id="prompts"
        ),
        pytest.param(
            _json("config_sentence_transformers.json", prompts={"query": 5}), CheckpointError, "texts", id="prompt"
        ),
        *(
            pytest.param(
                _json("config_sentence_transformers.json", model_type=kind), UnsupportedModelError, kind, id=kind
            )
            for kind in ("CrossEncoder", "SparseEncoder")
        ),
        pytest.param(_text("adapter_config.json", "{}"), UnsupportedModelError, "is an adapter", id="adapter"),
        pytest.param(
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            UnsafeModelError,
            r"pickle \(pytorch_model\.bin\)",
            id="pickle",
        ),
        pytest.param(
            _text("2_Dense/pytorch_model.bin", ""), UnsafeModelError, r"2_Dense/pytorch_model\.bin", id="part"
        ),
    ],
)
def test_what_is_refused(
    tiny: Path, change: Callable[[Path], None], error: type[CheckpointError], message: str
) -> None:
    """Incomplete, contradictory or unsafe files are each refused with an error of their own, and a hint."""
    change(tiny)
    with pytest.raises(error, match=message) as caught:
        _check(tiny)
    assert caught.type is error
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "files", "missing"),
    [
        ("Dense", [], ["9/config.json", "9/model.safetensors"]),
        ("Dense", ["config.json"], ["9/model.safetensors"]),
        ("LSTM", ["config.json"], ["9/lstm_config.json", "9/model.safetensors"]),
        ("CNN", ["config.json"], ["9/cnn_config.json", "9/model.safetensors"]),
        ("StaticEmbedding", ["tokenizer.json"], ["9/model.safetensors"]),
    ],
)
def test_files_of_the_other_parts(tiny: Path, kind: str, files: list[str], missing: list[str]) -> None:
    """Every part of a model needs its configuration and its weights, under the names that it reads."""
    modules = json.loads((tiny / "modules.json").read_text())
    _modules(*modules, _module(kind, "9"))(tiny)
    for name in files:
        _text(f"9/{name}", "{}")(tiny)
    with pytest.raises(IncompleteModelError, match=r"modules\.json asks for") as caught:
        _check(tiny)
    assert list(caught.value.missing) == missing


def test_damaged_weights_of_a_part(tmp_path: Path) -> None:
    """The weights of a dense layer are read as those of the transformer are."""
    folder = checkpoints.with_dense(tmp_path / "dense")
    _check(folder)
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="2_Dense"):
        _check(folder)


def test_an_activation_that_is_not_torchs(tmp_path: Path) -> None:
    """sentence-transformers would silently take Tanh; here it is refused, unless its code is trusted."""
    folder = checkpoints.with_dense(tmp_path / "dense")
    edit_json(folder / "2_Dense" / "config.json", activation_function="own.Activation")
    with pytest.raises(UnsafeModelError, match=r"own\.Activation; without trust"):
        _check(folder)
    _check(folder, trust_remote_code=True)


def test_a_router_that_leads_outside(tmp_path: Path) -> None:
    """The ways of a router are held to the rules of modules."""
    folder = checkpoints.routed(tmp_path / "routed")
    edit_json(folder / "router_config.json", types={"../x": "sentence_transformers.models.Pooling"})
    with pytest.raises(UnsafeModelError, match="points outside"):
        _check(folder)


def test_code_with_trust(tiny: Path) -> None:
    """Whoever trusts a repository's code passes this point; its files are checked all the same."""
    modules = json.loads((tiny / "modules.json").read_text())
    _modules(*modules, _module("own.Code", ""))(tiny)
    _check(tiny, trust_remote_code=True)
    (tiny / "model.safetensors").unlink()
    with pytest.raises(IncompleteModelError):
        _check(tiny, trust_remote_code=True)


class TestPooling:
    """The pooling that the user states."""

    def test_a_plain_checkpoint_needs_it(self, tmp_path: Path) -> None:
        """Nothing says how its token vectors become one; the hint is the argument to pass."""
        folder = checkpoints.plain(tmp_path / "plain")
        with pytest.raises(IncompleteModelError, match="silently take the mean") as caught:
            _check(folder)
        assert 'pooling="mean"' in str(caught.value.hint)
        assert _check(folder, pooling="mean").modules == ()

    def test_it_must_be_known(self, tmp_path: Path) -> None:
        """A misspelt pooling gets the list."""
        with pytest.raises(UnsupportedModelError, match="lasttoken"):
            _check(checkpoints.plain(tmp_path / "plain"), pooling="average")

    @pytest.mark.parametrize("pooling", ["mean", "cls"])
    def test_it_must_not_contradict_the_model(self, tiny: Path, pooling: str) -> None:
        """A model that states its own pooling takes no other."""
        with pytest.raises(UnsupportedModelError, match="states its own pooling"):
            _check(tiny, pooling=pooling)
