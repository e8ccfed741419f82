"""Headers of safetensors files."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from support import checkpoints

from langchain_localhf.checkpoint.weights import TensorHeader, read_header, read_headers
from langchain_localhf.errors import CheckpointError, IncompleteModelError

if TYPE_CHECKING:
    from pathlib import Path

_GOOD = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "BF16", "shape": [], "data_offsets": [8, 10]},
    "__metadata__": {"format": "pt"},
}
_DATA = bytes(10)


def _file(header: object, data: bytes = _DATA) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _with(name: str, **changes: Any) -> bytes:
    return _file({**_GOOD, name: {**_GOOD[name], **changes}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file of the test goes."""
    return tmp_path / "model.safetensors"


def test_a_good_header(path: Path) -> None:
    """Names, types and shapes; an empty shape is a single number, and metadata is no tensor."""
    path.write_bytes(_file(_GOOD))
    assert read_header(path) == {"a": TensorHeader("F32", (2,)), "b": TensorHeader("BF16", ())}


def test_the_real_model_is_read_as_by_safetensors(minilm: Path) -> None:
    """The library itself lists the same tensors with the same shapes."""
    with safe_open(minilm / "model.safetensors", "numpy") as file:
        expected = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
    assert {name: header.shape for name, header in read_headers(minilm).items()} == expected


def test_a_type_that_is_newer_than_this_package(path: Path) -> None:
    """An unknown type is passed on; its size cannot be checked."""
    path.write_bytes(_with("a", dtype="F3"))
    assert read_header(path)["a"].dtype == "F3"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"", "0 bytes and no readable header", id="empty"),
        pytest.param(b"\1\0", "2 bytes and no readable header", id="too short"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer", id="git-lfs"),
        pytest.param(struct.pack("<Q", 2**60) + b"{}", "no readable header", id="header bomb"),
        pytest.param(_file(_GOOD)[:40], "no readable header", id="truncated header"),
        pytest.param(_file(_GOOD)[:-1], "holds 9 bytes of tensors and should hold 10", id="truncated data"),
        pytest.param(_file(_GOOD, bytes(11)), "holds 11 bytes", id="data behind the last tensor"),
        pytest.param(_file(b"{not json"), "header is unreadable", id="no JSON"),
        pytest.param(_file(b"[" * 100_000), "header is unreadable", id="deep JSON"),
        pytest.param(_file(b"\xff\xfe"), "header is unreadable", id="no text"),
        pytest.param(_file([1]), "header is unreadable", id="no object"),
        pytest.param(_file({"a": 1}), "header is unreadable", id="no entry"),
        pytest.param(_with("a", data_offsets=[4, 8]), "overlap or leave a gap", id="gap"),
        pytest.param(_with("b", data_offsets=[6, 10]), "overlap or leave a gap", id="overlap"),
        pytest.param(_with("b", data_offsets=[8, 6]), "overlap or leave a gap", id="backwards"),
        pytest.param(_with("b", data_offsets=[8]), "header is unreadable", id="one offset"),
        pytest.param(_with("a", shape=[3]), r"tensor a has 8 bytes, and its header says F32 \[3\]", id="other shape"),
        pytest.param(_with("a", shape=[-1, -2]), "header is unreadable", id="negative shape"),
        pytest.param(_with("a", shape="ab"), "header is unreadable", id="shape of letters"),
        pytest.param(_with("a", shape=[2.0]), "header is unreadable", id="shape of floats"),
        pytest.param(_with("a", dtype=[]), "header is unreadable", id="type of no name"),
        pytest.param(_with("a", data_offsets=["0", "8"]), "header is unreadable", id="offsets of text"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(path: Path, content: bytes, why: str) -> None:
    """Each damage ends in an error with the file's name, before any framework sees the file."""
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=why) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


@given(st.data())
def test_any_bytes_are_a_header_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever happens to a header, reading it gives tensors or the package's own error."""
    content = bytearray(_file(_GOOD))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.sampled_from(b'0129-."[]{},:\\ue\0\xff'))
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(content[: data.draw(st.integers(len(content) - 20, len(content)))])
    try:
        tensors = read_header(path)
    except CheckpointError:
        return
    assert all(isinstance(header, TensorHeader) for header in tensors.values())


class TestFolder:
    """The weights of a folder."""

    def test_several_files(self, tmp_path: Path) -> None:
        """The index leads to all of them, and together they hold what the single file did."""
        single = read_headers(checkpoints.sentence_transformer(tmp_path / "single"))
        sharded = read_headers(checkpoints.sharded(tmp_path / "sharded"))
        # transformers 5.3 saves a layer norm under its oldest names.
        modern = {
            name.replace(".gamma", ".weight").replace(".beta", ".bias"): header for name, header in sharded.items()
        }
        assert modern == single

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        """The error lists the files that the index names and that are not there."""
        folder = checkpoints.sharded(tmp_path / "sharded")
        shard = sorted(folder.glob("model-*.safetensors"))[1]
        shard.unlink()
        with pytest.raises(IncompleteModelError, match="1 of 6 weight files") as caught:
            read_headers(folder)
        assert caught.value.missing == (shard.name,)

    def test_one_file_comes_before_an_index(self, tmp_path: Path) -> None:
        """As in transformers: a stale index beside the single file is not read."""
        (tmp_path / "model.safetensors").write_bytes(_file(_GOOD))
        (tmp_path / "model.safetensors.index.json").write_text("{")
        assert set(read_headers(tmp_path)) == {"a", "b"}

    def test_no_weights(self, tmp_path: Path) -> None:
        """A folder without weights has no tensors."""
        assert read_headers(tmp_path) == {}

    @pytest.mark.parametrize(
        "index",
        ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 5}}', "[" * 100_000]
        + [json.dumps({"weight_map": {"a": shard}}) for shard in ("../x.safetensors", "/x.safetensors", "a.bin", [])],
    )
    def test_a_damaged_index(self, tmp_path: Path, index: str) -> None:
        """An index that is none, or that leads out of the folder, is an error with its name."""
        (tmp_path / "model.safetensors.index.json").write_text(index)
        with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json is damaged"):
            read_headers(tmp_path)
