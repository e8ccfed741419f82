"""The manifest: round trips, hostile content, and what differs from it."""

from __future__ import annotations

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.checkpoints import COMMIT, edit_json, flip_byte

from langchain_localhf.errors import IntegrityError, LockfileError
from langchain_localhf.store.files import MANIFEST_NAME
from langchain_localhf.store.hashing import sha256_of
from langchain_localhf.store.manifest import (
    CodeOrigin,
    Differences,
    EncoderFacts,
    Manifest,
    SoundnessCheck,
    compare,
    describe,
    write_atomically,
)
from langchain_localhf.store.plain_data import FileEntry, GoldenVectors

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
_ORIGINS = st.builds(
    CodeOrigin,
    repository=st.from_regex(r"[a-z]{1,2}/[a-z][a-z.-]{1,2}x", fullmatch=True),
    commit=st.none() | st.just(COMMIT),
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
    trust_remote_code=st.booleans(),
    code=st.lists(_ORIGINS, max_size=3, unique_by=lambda origin: origin.repository).map(
        lambda origins: tuple(sorted(origins, key=lambda origin: origin.repository))
    ),
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


def test_manifest_from_before_there_was_trust(folder: Path, manifest: Manifest) -> None:
    """It can be read, and trusts nothing."""
    edit_json(folder / MANIFEST_NAME, trust_remote_code=None, code=None)
    assert "trust_remote_code" not in (folder / MANIFEST_NAME).read_text()
    assert Manifest.read(folder) == manifest
    assert (manifest.trust_remote_code, manifest.code) == (False, ())


@pytest.mark.parametrize("repository", ["../x", "/etc/x", "org", "a/b/c", "org/..", ""])
def test_code_from_no_repository(folder: Path, repository: str) -> None:
    """Its name becomes a part of a path, and of an address."""
    edit_json(folder / MANIFEST_NAME, code=[{"repository": repository}])
    with pytest.raises(LockfileError, match=r"code\[0\]\.repository"):
        Manifest.read(folder)


@pytest.mark.parametrize("repositories", [["org/b", "org/a"], ["org/a", "org/a"]])
def test_order_of_code(folder: Path, repositories: list[str]) -> None:
    """The same code gives the same bytes of JSON."""
    edit_json(folder / MANIFEST_NAME, code=[{"repository": repository} for repository in repositories])
    with pytest.raises(LockfileError, match="sorted by repository, each repository once in code"):
        Manifest.read(folder)


def test_where_trusted_code_comes_from(manifest: Manifest) -> None:
    """Commits that are known, by repository; and the command that brings model and code."""
    code = (CodeOrigin(repository="org/a"), CodeOrigin(repository="org/b", commit="b" * 40))
    trusted = manifest.model_copy(update={"trust_remote_code": True, "code": code})
    assert trusted.commits == {"": COMMIT, "org/b": "b" * 40}
    assert trusted.origin_command == f"localhf pull --trust-remote-code org/name@{COMMIT}"


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
