"""Which engine runs an embedding model, for every combination that a user can state."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from support import compiled

from langchain_localhf import HuggingFaceEmbeddings, engines
from langchain_localhf.engines.choice import choose_encoder
from langchain_localhf.errors import EngineNotInstalledError, InputError, LocalHFError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_localhf.store.manifest import Manifest


def chosen(
    backend: str = "auto",
    *,
    model_kwargs: dict[str, Any] | None = None,
    pooling: str | None = None,
    is_compiled: bool = True,
    packed: bool = False,
    installed: tuple[str, ...] = ("torch", "openvino"),
) -> str:
    """The engine for a tiny model."""
    manifest: Manifest | None = compiled.tiny().manifest
    assert manifest is not None
    changes: dict[str, Any] = {"packed": packed} if is_compiled else {"compiled": None}
    return choose_encoder(
        backend,
        name="org/tiny",
        manifest=manifest.model_copy(update=changes),
        pooling=pooling,
        model_kwargs=model_kwargs or {},
        installed=lambda name: name in installed,
    )


@pytest.mark.parametrize(
    "model_kwargs",
    [
        {},
        {"device": None},
        {"device": "cpu"},
        {"truncate_dim": 8, "prompts": {"query": "q: "}, "revision": "main", "trust_remote_code": True},
        {"model_kwargs": {"device": "CPU"}},
    ],
)
def test_graph_wherever_it_does_what_is_asked(model_kwargs: dict[str, Any]) -> None:
    """By itself, and with settings that do not need torch."""
    assert chosen(model_kwargs=model_kwargs) == "openvino"


@pytest.mark.parametrize(
    "case",
    [
        {"is_compiled": False},
        {"installed": ("torch",)},
        {"model_kwargs": {"device": "cuda"}},
        {"model_kwargs": {"device": "mps:0"}},
        {"model_kwargs": {"tokenizer_kwargs": {"model_max_length": 9}}},
        {"model_kwargs": {"model_kwargs": {"dtype": "float16"}}},
        {"pooling": "cls"},
        {"backend": "torch"},
        {"model_kwargs": {"backend": "torch"}},
    ],
)
def test_torch_for_everything_else(case: dict[str, Any]) -> None:
    """What is asked for counts; nothing is dropped to make a graph fit."""
    assert chosen(**case) == "torch"


@pytest.mark.parametrize(
    "case", [{"backend": "openvino"}, {"model_kwargs": {"backend": "openvino"}}, {"model_kwargs": {"ov_config": {}}}]
)
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"is_compiled": False}, UnsupportedModelError, "localhf compile org/tiny"),
        ({"pooling": "cls"}, InputError, "pooling='cls'"),
    ],
)
def test_graph_that_was_asked_for_and_cannot_be(
    case: dict[str, Any], changes: dict[str, Any], error: type[LocalHFError], words: str
) -> None:
    """Never torch instead, in silence; `ov_config` asks for OpenVINO, too."""
    with pytest.raises(error) as caught:
        chosen(**case, **changes)
    assert words in str(caught.value)


def test_settings_that_went_into_the_graph() -> None:
    """Each is named."""
    with pytest.raises(InputError, match="config_kwargs, export"):
        chosen("openvino", model_kwargs={"config_kwargs": {}, "model_kwargs": {"export": True}})


def test_two_engines_at_once() -> None:
    """Two ways to say one thing have to agree."""
    assert chosen("openvino", model_kwargs={"backend": "openvino"}) == "openvino"
    with pytest.raises(InputError, match="contradict"):
        chosen("torch", model_kwargs={"backend": "openvino"})


def test_without_torch_the_reason_is_what_the_user_hears() -> None:
    """On a slim install, "install torch" would be the wrong advice."""
    with pytest.raises(UnsupportedModelError, match="not compiled"):
        chosen(is_compiled=False, installed=("openvino",))
    assert chosen(installed=("openvino",)) == "openvino"


def test_packed_model_has_nothing_for_torch() -> None:
    """Its weights were left behind."""
    assert chosen(packed=True, installed=()) == "openvino"
    with pytest.raises(InputError, match="config_kwargs"):
        chosen(packed=True, model_kwargs={"config_kwargs": {}})


def test_unknown_engine() -> None:
    """The known ones are listed."""
    with pytest.raises(UnsupportedModelError, match="onnx"):
        HuggingFaceEmbeddings(model_name=str(compiled.tiny().folder), backend="onnx")


def test_openvino_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    found = engines.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else found(name))
    with pytest.raises(EngineNotInstalledError, match="openvino engine is not installed") as caught:
        HuggingFaceEmbeddings(model_name=str(compiled.tiny().folder), backend="openvino")
    assert 'pip install "langchain-localhf[openvino]"' in str(caught.value)


def test_model_that_is_compiled_while_it_is_in_use(tmp_path: Path) -> None:
    """Who holds it goes on with torch; who comes later gets the graph."""
    folder = shutil.copytree(compiled.tiny().folder, tmp_path / "model")
    aside = (folder / "openvino").rename(tmp_path / "openvino")
    manifest = (folder / "localhf.json").read_text()
    plain = compiled.tiny().manifest
    assert plain is not None
    plain.model_copy(update={"compiled": None}).write(folder)
    first = HuggingFaceEmbeddings(model_name=str(folder))
    aside.rename(folder / "openvino")
    (folder / "localhf.json").write_text(manifest)
    second = HuggingFaceEmbeddings(model_name=str(folder))
    kinds = [type(one._model.encoder).__name__ for one in (first, second)]
    assert kinds == ["TorchEncoder", "OpenVINOEncoder"]
    assert first.fingerprint == second.fingerprint
