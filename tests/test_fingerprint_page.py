"""The tables of docs/concepts/fingerprints.md: what changes a fingerprint, and what does not."""

from __future__ import annotations

import ast
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from support import checkpoints, compiled, dual_encoders, remote_checkpoints
from support.servers import running
from support.tables import Table

from langchain_localhf import CLIPEmbeddings, HuggingFaceEmbeddings, LocalHFServerEmbeddings
from langchain_localhf.server.settings import ServerSettings

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Table("fingerprints.md", "What changes it: settings")
TABLE = Table("fingerprints.md", "What changes it: the model")


def fingerprint(folder: Path | str, **fields: Any) -> str:
    """The fingerprint of a model with these settings."""
    return HuggingFaceEmbeddings(model_name=str(folder), **fields).fingerprint


def touch(file: Path) -> None:
    """Adds a byte, which is a blank, to a file."""
    with file.open("ab") as opened:
        opened.write(b" ")


def as_fields(written: str) -> dict[str, Any]:
    """The arguments that a cell of the page shows."""
    call = ast.parse(f"f({written.strip('`')})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}


@pytest.mark.parametrize(("setting", "verdict"), [row[:2] for row in SETTINGS.rows])
def test_settings(setting: str, verdict: str, tiny: Path) -> None:
    """Each row is what the page says it is, with the very arguments that it shows."""
    is_same = fingerprint(tiny, **as_fields(setting)) == fingerprint(tiny)
    assert ("the same" if is_same else "another") == verdict


def test_each_row_has_one_test() -> None:
    """The page and the tests below list the same, in the same order, each once; both tables hold both verdicts."""
    TABLE.check()
    for table in (SETTINGS, TABLE):
        assert {row[1] for row in table.rows} == {"the same", "another"}


@TABLE.row("a byte of the weights, a configuration or the tokenizer", "another")
@pytest.mark.parametrize("path", ["config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"])
def test_files(tiny: Path, path: str) -> None:
    """A blank at the end is enough, and so is another weight."""
    before = fingerprint(tiny)
    touch(tiny / path)
    changed = fingerprint(tiny)
    checkpoints.edit_weights(tiny, lambda tensors: {name: 2 * tensor for name, tensor in tensors.items()})
    assert len({before, changed, fingerprint(tiny)}) == 3


@TABLE.row("a byte of code that you trust", "another")
def test_code(tmp_path: Path) -> None:
    """The code is one of the files that shape a vector."""
    folder = remote_checkpoints.growing().build(tmp_path / "model")
    before = fingerprint(folder, model_kwargs={"trust_remote_code": True})
    touch(folder / "bert_layers.py")
    assert fingerprint(folder, model_kwargs={"trust_remote_code": True}) != before


@TABLE.row("a byte of the README or of a licence", "the same")
def test_documents(tiny: Path) -> None:
    """What is for people changes no vector."""
    before = fingerprint(tiny)
    for name in ("README.md", "LICENSE"):
        touch(tiny / name)
    assert fingerprint(tiny) == before


@TABLE.row("files for other programs, such as `onnx/`", "the same")
def test_other_programs(tiny: Path) -> None:
    """What is not read changes no vector."""
    before = fingerprint(tiny)
    (tiny / "onnx").mkdir()
    touch(tiny / "onnx" / "model.onnx")
    assert fingerprint(tiny) == before


@TABLE.row("the name, and the place of the folder", "the same")
def test_place(tiny: Path, tmp_path: Path, store_home: Path) -> None:
    """A copy in a folder and one in the store, under another name."""
    shutil.copytree(tiny, tmp_path / "copy")
    checkpoints.stored(store_home, "org/other-name", tiny)
    assert fingerprint(tiny) == fingerprint(tmp_path / "copy") == fingerprint("org/other-name")


@TABLE.row("the branch, tag or commit", "the same")
def test_commit(tiny: Path, tmp_path: Path) -> None:
    """Two commits of a repository with the same files."""
    for branch, digit in (("main", "1"), ("next", "2")):
        checkpoints.hub_cache(tmp_path / "cache", "org/tiny", tiny, commit=digit * 40, ref=branch)
    both = {fingerprint(f"org/tiny@{branch}", cache_folder=str(tmp_path / "cache")) for branch in ("main", "next")}
    assert both == {fingerprint(tiny)}


@TABLE.row("another `pooling` of a plain transformer", "another")
def test_pooling(tmp_path: Path) -> None:
    """It is said by the user, and so it is part of the settings."""
    folder = checkpoints.plain(tmp_path / "plain")
    assert fingerprint(folder, pooling="mean") != fingerprint(folder, pooling="cls")


@TABLE.row("`normalize_embeddings`, if the model does it by itself", "the same")
def test_normalizing_twice(tiny: Path) -> None:
    """The model's last module normalises."""
    assert fingerprint(tiny, encode_kwargs={"normalize_embeddings": True}) == fingerprint(tiny)


@TABLE.row("`normalize_embeddings`, if it does not", "another")
def test_normalizing(tmp_path: Path) -> None:
    """This model ends in a dense layer."""
    folder = checkpoints.with_dense(tmp_path / "dense")
    assert fingerprint(folder, encode_kwargs={"normalize_embeddings": True}) != fingerprint(folder)


@TABLE.row("a graph in f32 or bf16", "the same")
def test_graph() -> None:
    """In f32 here; whether this processor has bf16 is another matter, and `auto` says nothing of it."""
    for precision in ("f32", "auto"):
        graph = compiled.tiny(precision).folder
        assert fingerprint(graph, backend="openvino") == fingerprint(graph, backend="torch")


@TABLE.row("a graph in int8", "another")
def test_graph_in_whole_numbers() -> None:
    """Its weights are others."""
    graph = compiled.tiny("int8").folder
    assert fingerprint(graph, backend="openvino") != fingerprint(graph, backend="torch")


@TABLE.row("a second model for texts (`text_model_name`)", "another")
def test_pair(tmp_path: Path) -> None:
    """The pair's is none of the two."""
    clip, texts = dual_encoders.st_clip(tmp_path / "clip"), dual_encoders.text_tower(tmp_path / "texts")
    pair = CLIPEmbeddings(model_name=str(clip), text_model_name=str(texts))
    assert pair.fingerprint not in (fingerprint(clip), fingerprint(texts))
    assert CLIPEmbeddings(model_name=str(clip)).fingerprint == fingerprint(clip)


@TABLE.row("the same model behind `localhf serve`", "the same")
@pytest.mark.loopback
def test_server(tiny: Path) -> None:
    """The client asks the server for it."""
    with running(ServerSettings(text=str(tiny))) as server:
        assert LocalHFServerEmbeddings(base_url=server.url).fingerprint == fingerprint(tiny)


@TABLE.row("`dimensions` of `LocalHFServerEmbeddings`", "another")
@pytest.mark.loopback
def test_dimensions(tiny: Path) -> None:
    """Each number of dimensions has one."""
    with running(ServerSettings(text=str(tiny))) as server:
        short = [LocalHFServerEmbeddings(base_url=server.url, dimensions=count).fingerprint for count in (4, 8)]
    assert len({*short, fingerprint(tiny)}) == 3
