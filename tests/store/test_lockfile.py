"""The lockfile: its laws, its text, and how it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_localhf.errors import LockfileError
from langchain_localhf.store.lockfile import LockedModel, Lockfile
from langchain_localhf.store.manifest import CodeOrigin, Manifest
from langchain_localhf.store.plain_data import FileEntry

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "0123456789" * 4
SHA256 = "ab" * 32
TEXT = f"""\
# Written by localhf; `localhf pull --locked` brings exactly these bytes, or fails.
format = 1

[[models]]
name = "org/added"
source = "folder"

[[models.files]]
path = "config.json"
size_bytes = 2
sha256 = "{SHA256}"

[[models]]
name = "org/name"
source = "hub"
revision = "main"
commit = "{COMMIT}"
fingerprint = "f1"

[[models.files]]
path = "1_Pooling/config.json"
size_bytes = 2
sha256 = "{SHA256}"

[[models.files]]
path = "model.safetensors"
size_bytes = 3
sha256 = "{SHA256}"
"""


def entry(path: str, size_bytes: int = 2) -> FileEntry:
    """A file."""
    return FileEntry(path=path, size_bytes=size_bytes, sha256=SHA256)


LOCKFILE = Lockfile.of(
    [
        LockedModel.from_manifest(
            Manifest(
                name="org/name",
                source="hub",
                revision="main",
                commit=COMMIT,
                fingerprint="f1",
                files=(entry("1_Pooling/config.json"), entry("model.safetensors", 3)),
            )
        ),
        LockedModel.from_manifest(Manifest(name="org/added", source="folder", files=(entry("config.json"),))),
    ]
)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
paths = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=3,
).map("/".join)
files = st.builds(
    FileEntry, path=paths, size_bytes=st.integers(0, 2**60), sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
)
locked_models = st.builds(
    LockedModel,
    name=words,
    source=st.sampled_from(["hub", "folder"]),
    revision=st.none() | words,
    commit=st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
    fingerprint=st.none() | words,
    files=st.lists(files, max_size=3, unique_by=lambda file: file.path).map(
        lambda entries: tuple(sorted(entries, key=lambda file: file.path))
    ),
)
origins = st.builds(
    CodeOrigin,
    repository=st.from_regex(r"[a-z]{1,3}/[a-z]{1,3}", fullmatch=True),
    commit=st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
)
trusted_models = st.builds(
    lambda model, code: LockedModel(**dict(model) | {"trust_remote_code": True, "code": code}),
    locked_models,
    st.lists(origins, max_size=3, unique_by=lambda origin: origin.repository).map(
        lambda found: tuple(sorted(found, key=lambda origin: origin.repository))
    ),
)
model_lists = st.lists(locked_models | trusted_models, max_size=4, unique_by=lambda model: model.name)


@given(model_lists)
def test_what_is_written_is_what_is_read(models: list[LockedModel]) -> None:
    """`from_toml(to_toml(l)) == l`, for any names, paths and revisions."""
    lockfile = Lockfile.of(models)
    assert Lockfile.from_toml(lockfile.to_toml()) == lockfile


@given(model_lists)
def test_the_order_of_the_models_does_not_matter(models: list[LockedModel]) -> None:
    """The same models give the same text, however they came together."""
    text = Lockfile.of(models).to_toml()
    assert Lockfile.of(reversed(models)).to_toml() == text
    assert Lockfile().updated(models[1:]).updated(models[:1]).to_toml() == text


def test_the_text() -> None:
    """The format is fixed; a lockfile of today can be read tomorrow."""
    assert LOCKFILE.to_toml() == TEXT
    assert Lockfile.from_toml(TEXT) == LOCKFILE


def test_the_text_of_trust() -> None:
    """It stands where a reviewer sees it, and only where there is some."""
    code = (CodeOrigin(repository="org/code", commit=COMMIT),)
    manifest = Manifest(
        name="org/name", source="hub", commit=COMMIT, trust_remote_code=True, code=code, files=(entry("code/m.py"),)
    )
    assert Lockfile.of([LockedModel.from_manifest(manifest)]).to_toml() == (
        f"{TEXT.partition('[[')[0]}"
        "[[models]]\n"
        'name = "org/name"\n'
        'source = "hub"\n'
        f'commit = "{COMMIT}"\n'
        "trust_remote_code = true\n"
        "code = [\n"
        f'    {{ repository = "org/code", commit = "{COMMIT}" }},\n'
        "]\n\n"
        "[[models.files]]\n"
        'path = "code/m.py"\n'
        "size_bytes = 2\n"
        f'sha256 = "{SHA256}"\n'
    )


@pytest.mark.parametrize(
    ("trust", "commit", "message"),
    [
        ("", f'commit = "{COMMIT}"\n', "a model with code needs trust_remote_code"),
        ("trust_remote_code = true\n", "", "code from the hub needs a commit"),
    ],
)
def test_code_that_cannot_be_right(trust: str, commit: str, message: str) -> None:
    """Nobody trusts it, or nobody knows which it is."""
    code = f'{trust}[[models.code]]\nrepository = "org/code"\n{commit}\n'
    text = TEXT.replace('fingerprint = "f1"\n', f'fingerprint = "f1"\n{code}')
    with pytest.raises(LockfileError, match=rf"{message} in models\[1\]"):
        Lockfile.from_toml(text)


def test_update_replaces_a_model_of_the_same_name() -> None:
    """A new commit of a model takes the place of the old one."""
    newer = LOCKFILE.models[1].model_copy(update={"commit": "f" * 40})
    assert LOCKFILE.updated([newer]).models == (LOCKFILE.models[0], newer)


@pytest.mark.parametrize(
    ("old", "new", "context"),
    [
        ("format = 1", "format = 2", "format"),
        ("format = 1", 'format = 1\ntool = "x"', "tool"),
        ('source = "hub"', 'source = "web"', "models[1].source"),
        (f'commit = "{COMMIT}"\n', "", "models[1]"),
        (COMMIT, COMMIT[1:], "models[1].commit"),
        (COMMIT, "main", "models[1].commit"),
        ("size_bytes = 3", "size_bytes = -3", "models[1].files[1].size_bytes"),
        ("size_bytes = 3", 'size_bytes = "3"', "models[1].files[1].size_bytes"),
        ("size_bytes = 3", "size_bytes = 1979-05-27", "models[1].files[1].size_bytes"),
        ('"model.safetensors"', '"../model.safetensors"', "models[1].files[1].path"),
        ('"model.safetensors"', '"/etc/passwd"', "models[1].files[1].path"),
        ("1_Pooling/config.json", "zebra.json", "models[1].files"),
        ("org/added", "org/name", "models"),
    ],
)
def test_errors_say_where(old: str, new: str, context: str) -> None:
    """A lockfile that was edited by hand is refused with the place of the mistake."""
    with pytest.raises(LockfileError) as caught:
        Lockfile.from_toml(TEXT.replace(old, new), source="some.lock")
    assert caught.value.context == context
    assert caught.value.message.startswith("cannot read some.lock: ")


def test_no_toml() -> None:
    """A merge conflict in the lockfile is told with its line."""
    with pytest.raises(LockfileError, match=r"cannot read localhf\.lock: .*line 1, column 1"):
        Lockfile.from_toml("<<<<<<< HEAD\n" + TEXT)


def test_reading_and_writing_a_file(tmp_path: Path) -> None:
    """The file holds the text, and nothing else is left beside it."""
    path = tmp_path / "localhf.lock"
    LOCKFILE.write(path)
    assert path.read_text(encoding="utf-8") == TEXT
    assert Lockfile.read(path) == LOCKFILE
    assert list(tmp_path.iterdir()) == [path]


def test_no_file(tmp_path: Path) -> None:
    """The hint writes one."""
    with pytest.raises(LockfileError) as caught:
        Lockfile.read(tmp_path / "nix.lock")
    assert caught.value.message == f"there is no lockfile {tmp_path / 'nix.lock'}"
    assert caught.value.hint == f"write one from the models in the store: localhf lock --file {tmp_path / 'nix.lock'}"


def test_no_text(tmp_path: Path) -> None:
    """Binary garbage is an error of its own, not a crash."""
    (tmp_path / "localhf.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(LockfileError, match="no UTF-8 text"):
        Lockfile.read(tmp_path / "localhf.lock")
