"""What a model name means."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_localhf.errors import ModelNotFoundError, ModelReferenceError
from langchain_localhf.store.reference import Reference, expand_user, require_repository

_LETTERS = string.ascii_letters + string.digits
_PARTS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_]|[.-](?=[A-Za-z0-9])){0,20}", fullmatch=True).filter(
    lambda part: not part.endswith(".git")
)
_REVISIONS = st.text(_LETTERS, min_size=1, max_size=12)


@given(_PARTS, _REVISIONS)
def test_a_bare_name_of_another_organisation(name: str, revision: str) -> None:
    """It comes first, and is in the command; then what the name means to `localhf add`, which knows of no kinds."""
    reference = Reference.parse_repository(f"{name}@{revision}", organisation="cross-encoder")
    assert reference.repositories == (f"cross-encoder/{name}", f"sentence-transformers/{name}", name)
    assert reference.command_argument == f"cross-encoder/{name}@{revision}"
    whole = Reference.parse_repository(f"org/{name}", organisation="cross-encoder")
    assert (whole.repositories, whole.command_argument) == ((f"org/{name}",), f"org/{name}")


@given(_PARTS, _PARTS, _REVISIONS)
def test_a_repository_with_a_revision_makes_the_round_trip(organisation: str, name: str, revision: str) -> None:
    """`org/name@revision` is read into its parts, and written for `localhf pull` as it was."""
    text = f"{organisation}/{name}@{revision}"
    reference = Reference.parse(text)
    assert (reference.repositories, reference.revision) == ((f"{organisation}/{name}",), revision)
    assert reference.command_argument == text


@given(st.text(max_size=150) | st.text("./\\~@-_ab\0\n", max_size=12))
def test_any_text_is_a_reference_or_a_clear_error(text: str) -> None:
    """Whatever is given: a folder, repositories, or one of the two errors of a name."""
    hint = None
    try:
        reference = Reference.parse(text)
    except (ModelReferenceError, ModelNotFoundError) as error:
        hint = error.hint
    assert hint or (reference.folder is None) == bool(reference.repositories)


@given(st.text(max_size=20) | st.text("./\\ab-", max_size=8))
def test_no_accepted_name_leads_out_of_a_folder(name: str) -> None:
    """A name that passes is a path of one or two parts below the folder it is appended to."""
    try:
        require_repository(name)
    except ModelReferenceError:
        return
    parts = Path("store", name).parts
    assert len(parts) <= 3
    assert ".." not in parts


@pytest.mark.parametrize(
    ("text", "repositories"),
    [
        ("all-MiniLM-L6-v2", ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2")),
        ("intfloat/e5-small", ("intfloat/e5-small",)),
        ("_org/name_", ("_org/name_",)),
    ],
)
def test_names_of_repositories(text: str, repositories: tuple[str, ...]) -> None:
    """A bare name gets sentence-transformers' organisation first, as there."""
    assert Reference.parse(text).repositories == repositories


@pytest.mark.parametrize(
    "text",
    ["", "  ", "org name", "org/na me", "a--b/c", "a..b", "-a", "org/name.git", "é/b", "a" * 97, "org/name\n"],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    """The hub's own rules for names hold, and the hint says which forms there are."""
    with pytest.raises(ModelReferenceError, match=r"org/name@revision"):
        Reference.parse(text)


@pytest.mark.parametrize("revision", ["", "../../other", "/etc", "a b", "v1/", "a@b"])
def test_revisions_that_are_none_are_refused(revision: str) -> None:
    """A revision becomes a path inside a cache, so it must not lead out of it."""
    with pytest.raises(ModelReferenceError, match="cannot read the revision"):
        Reference.parse("org/name", revision=revision)


def test_a_revision_beside_the_name() -> None:
    """`model_kwargs["revision"]` counts as `@revision`; two different ones contradict each other."""
    assert Reference.parse("org/name", revision="v2").command_argument == "org/name@v2"
    assert Reference.parse("org/name@v2", revision="v2").revision == "v2"
    with pytest.raises(ModelReferenceError, match="two revisions"):
        Reference.parse("org/name@v1", revision="v2")


@pytest.mark.parametrize(
    "text",
    [
        "./models/tini",
        "../nowhere",
        "/nowhere/at/all",
        "models/a/b",
        "models/tiny/",
        "~/nowhere",
        "~nobody/x",
        "..\\models\\tiny",
        "C:\\models\\tiny",
        "org\\name",
        "./nul\0",
        "/" + "x" * 5000,
    ],
)
def test_what_looks_like_a_path_is_never_a_repository(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped path is an error that names the path, not a repository that could be downloaded."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match="there is no folder at") as caught:
        Reference.parse(text)
    assert caught.value.looked_in


def test_a_mistyped_path_gets_its_neighbour_as_a_hint(tmp_path: Path) -> None:
    """The hint names the folder that was probably meant."""
    (tmp_path / "tiny").mkdir()
    with pytest.raises(ModelNotFoundError) as caught:
        Reference.parse(str(tmp_path / "tini"))
    assert caught.value.hint == f"did you mean {str(tmp_path / 'tiny')!r}?"


def test_a_folder_shadows_a_repository_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`org/name` in the working directory comes first, as in sentence-transformers; the path is made absolute."""
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert Reference.parse("org/name").folder == tmp_path / "org" / "name"
    assert Reference.parse_repository("org/name").folder is None


def test_home_folder(home: Path) -> None:
    """`~` is the home folder."""
    (home / "model").mkdir()
    assert Reference.parse("~/model").folder == home / "model"


def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder, as in a container, gets an error of a name and not a crash."""
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert expand_user(Path("~/model")) == Path("~/model")
    with pytest.raises(ModelNotFoundError):
        Reference.parse("~/model")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    """A path to a file inside a model points to its folder."""
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelReferenceError, match="is a file") as caught:
        Reference.parse(str(tmp_path / "model.safetensors"))
    assert caught.value.hint == f"use its folder: {str(tmp_path)!r}"
