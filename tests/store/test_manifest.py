"""The manifest: round trips, hostile content, and what differs from it."""

from __future__ import annotations

import base64
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.checkpoints import COMMIT, edit_json, flip_byte

from langchain_localhf.errors import IntegrityError, LockfileError
from langchain_localhf.store import manifest as manifests
from langchain_localhf.store.files import MANIFEST_NAME
from langchain_localhf.store.manifest import (
    Differences,
    EncoderFacts,
    FileEntry,
    GoldenVectors,
    Manifest,
    SoundnessCheck,
    compare,
    describe,
    git_sha1_of,
    sha256_of,
    write_atomically,
)

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_ENTRIES = st.builds(
    FileEntry,
    path=st.from_regex(r"[a-z]{1,4}(/[a-z.]{1,3}x){0,2}", fullmatch=True),
    size_bytes=st.integers(0, 2**63),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)
_GOLDEN = st.builds(
    GoldenVectors,
    texts=st.lists(_TEXT, max_size=2).map(tuple),
    float32_base64=st.binary(max_size=5).map(lambda data: base64.b64encode(data * 4).decode()),
)
_MANIFESTS = st.builds(
    Manifest,
    name=_TEXT,
    source=st.sampled_from(["hub", "folder"]),
    revision=st.none() | _TEXT,
    commit=st.none() | _TEXT,
    fingerprint=st.none() | _TEXT,
    encoder=st.none() | st.builds(EncoderFacts, prompts=st.dictionaries(_TEXT, _TEXT, max_size=3)),
    check=st.none() | st.builds(SoundnessCheck, golden=st.none() | _GOLDEN),
    files=st.lists(_ENTRIES, max_size=4, unique_by=lambda entry: entry.path).map(
        lambda entries: tuple(sorted(entries, key=lambda entry: entry.path))
    ),
)


@given(_MANIFESTS)
def test_json_makes_the_round_trip(manifest: Manifest) -> None:
    """What was written is read back, and written again gives the same bytes."""
    text = manifest.to_json()
    again = Manifest.from_json(text)
    assert again == manifest
    assert again.to_json() == text


@given(st.binary(max_size=40) | st.from_type(type).map(repr).map(str.encode))
def test_any_bytes_are_a_manifest_or_a_clear_error(data: bytes) -> None:
    """Whatever a file holds, reading it fails with the package's own error or not at all."""
    with pytest.raises(LockfileError, match=r"cannot read localhf\.json"):
        Manifest.from_json(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three files and the manifest of them."""
    (tmp_path / "1_Pooling").mkdir()
    for path in ("config.json", "model.safetensors", "1_Pooling/config.json"):
        (tmp_path / path).write_text(path)
    files = describe(tmp_path, ["model.safetensors", "config.json", "1_Pooling/config.json"])
    Manifest(name="org/name", source="hub", revision="main", commit=COMMIT, files=files).write(tmp_path)
    return tmp_path


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    """The manifest of `folder`."""
    found = Manifest.read(folder)
    assert found is not None
    return found


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a\\b", ".", ""])
def test_paths_out_of_the_folder_are_refused(folder: Path, manifest: Manifest, path: str) -> None:
    """A hostile manifest cannot point at other files; the error says which entry."""
    files = [entry.model_dump() for entry in manifest.files]
    edit_json(folder / MANIFEST_NAME, files=[*files[:2], {**files[2], "path": path}])
    with pytest.raises(LockfileError, match=r"relative path inside the model's folder in files\[2\]\.path") as caught:
        Manifest.read(folder)
    assert caught.value.context == "files[2].path"


@pytest.mark.parametrize(
    ("changes", "context"),
    [
        ({"format": 2}, "format"),
        ({"name": 5}, "name"),
        ({"surprise": 1}, "surprise"),
        ({"files": [{"path": "a", "size_bytes": -1, "sha256": "0" * 64}]}, "files[0].size_bytes"),
        ({"files": [{"path": "a", "size_bytes": 1, "sha256": "0" * 63}]}, "files[0].sha256"),
        ({"files": [{"path": "a", "size_bytes": 1, "sha256": "0" * 64}] * 2}, "files"),
        ({"check": {"versions": {}, "golden": {"texts": [], "float32_base64": "AAA="}}}, "check.golden.float32_base64"),
        ({"check": {"versions": {}, "golden": {"texts": [], "float32_base64": "?"}}}, "check.golden.float32_base64"),
    ],
)
def test_damaged_content_is_named(folder: Path, changes: dict[str, object], context: str) -> None:
    """The error says where in the file the first problem is."""
    edit_json(folder / MANIFEST_NAME, **changes)
    with pytest.raises(LockfileError) as caught:
        Manifest.read(folder)
    assert caught.value.context == context
    assert str(folder / MANIFEST_NAME) in str(caught.value)


def test_truncated_json_is_named(folder: Path) -> None:
    """Half a file is an error that names the file."""
    path = folder / MANIFEST_NAME
    path.write_text(path.read_text()[:40])
    with pytest.raises(LockfileError, match="Invalid JSON"):
        Manifest.read(folder)


def test_no_manifest_is_none(tmp_path: Path) -> None:
    """A folder, a missing folder and a file have no manifest."""
    (tmp_path / "file").touch()
    assert [Manifest.read(path) for path in (tmp_path, tmp_path / "gone", tmp_path / "file")] == [None, None, None]


def test_all_differences_at_once(folder: Path, manifest: Manifest) -> None:
    """One look lists everything that is changed, missing or extra, each sorted."""
    flip_byte(folder / "model.safetensors")
    (folder / "1_Pooling" / "config.json").write_text("another size")
    (folder / "config.json").unlink()
    for extra in ("z.py", "pytorch_model.bin", "modules.json", "README.md", "notes.pdf"):
        (folder / extra).touch()
    differences = compare(folder, manifest)
    assert differences == Differences(
        changed=("1_Pooling/config.json", "model.safetensors"),
        missing=("config.json",),
        extra=("modules.json", "pytorch_model.bin", "z.py"),
    )
    error = differences.as_error(manifest)
    assert isinstance(error, IntegrityError)
    assert (error.changed, error.missing, error.extra) == tuple(vars(differences).values())
    assert "2 changed: 1_Pooling/config.json, model.safetensors; 1 missing: config.json; 3 extra:" in str(error)
    assert f"localhf pull org/name@{COMMIT}" in str(error)


def test_no_differences(folder: Path, manifest: Manifest) -> None:
    """The files as they were described are as their manifest says."""
    assert not compare(folder, manifest)
    assert (manifest.size_bytes, manifest.hashes["config.json"]) == (49, sha256_of(folder / "config.json"))


def test_an_added_model_has_no_hub_to_come_from(manifest: Manifest) -> None:
    """The hint for a folder that someone added is to add it again."""
    added = manifest.model_copy(update={"source": "folder", "commit": None})
    assert added.origin_command == "localhf add PATH --as org/name"


def test_git_hash(tmp_path: Path) -> None:
    """The hash that the hub gives for small files is git's."""
    (tmp_path / "hello").write_text("hello\n")
    assert git_sha1_of(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_change_within_one_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    """Equal size and equal times do not hide a change in a file that was hashed right after it was written."""
    path = tmp_path / "a"
    for content in ("one", "two"):
        path.write_text(content)
        os.utime(path, ns=(1, 1))
        assert compare(tmp_path, Manifest(name="a", source="folder", files=describe(tmp_path, ["a"]))) == Differences()
    assert len({sha256_of(path), "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"}) == 2


def test_a_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a file has rested for a moment, its hash is kept until it changes."""
    path = tmp_path / "a"
    path.write_text("one")
    time.sleep(0.05)
    first = sha256_of(path)
    monkeypatch.setattr(manifests.hashlib, "file_digest", None)
    assert sha256_of(path) == first


def test_writing_replaces_in_one_step(tmp_path: Path) -> None:
    """Readers beside many writers always see one whole content."""
    path = tmp_path / "data.json"
    texts = [json.dumps([number] * 5000) for number in range(8)]
    write_atomically(path, texts[0])
    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(write_atomically, path, text) for text in texts]
        while not all(task.done() for task in writing):
            assert path.read_text() in texts
        assert [task.result() for task in writing] == [None] * 8
    assert os.listdir(tmp_path) == ["data.json"]  # noqa: PTH208 - hidden files count


def test_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    """A text that cannot be written leaves the old file, and no other."""
    path = tmp_path / "data.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert (os.listdir(tmp_path), path.read_text()) == (["data.json"], "old")  # noqa: PTH208 - hidden files count


def test_a_manifest_cannot_be_changed(manifest: Manifest) -> None:
    """Manifests are values."""
    with pytest.raises(ValidationError, match="frozen"):
        manifest.name = "other"  # type: ignore[misc]
