"""What each command prints, where, and with which exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from support import checkpoints, remote_checkpoints
from support.compiled import CALIBRATION
from support.fake_hub import TINY as NAME
from support.fake_hub import FakeHub, Repository, running_hub

from langchain_localhf import engines, provisioning
from langchain_localhf.cli import main
from langchain_localhf.store.disk import formatted_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.loopback

NOTE = (
    f"note: {NAME} was verified but not loaded, because no engine is installed; "
    'pip install "langchain-localhf[torch]" and pull again to check it\n'
)


@pytest.fixture
def hub(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the tiny model."""
    with running_hub(monkeypatch) as running:
        running.upload(NAME, tiny)
        yield running


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no engine were installed, where a test is not about loading."""
    monkeypatch.setattr(engines, "installed", lambda _backend="torch": False)


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def localhf(*arguments: object) -> Result:
    """Runs the command line in this process; what it raises is a mistake."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="localhf")
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result


@pytest.mark.usefixtures("unchecked")
def test_pull_prints_the_folder(hub: FakeHub, store_home: Path) -> None:
    """Data on stdout, everything else on stderr."""
    result = localhf("pull", "tiny")
    commit = hub.repositories[NAME].references["main"]
    assert (result.exit_code, result.stdout) == (0, f"{store_home / NAME}\n")
    assert result.stderr.startswith(f"asking the hub for tiny\npulling {NAME}, commit {commit[:12]}: 10 files, ")
    assert result.stderr.endswith(f"checking {NAME}\n{NOTE}")


def test_pull_as_json(hub: FakeHub, store_home: Path, tiny: Path) -> None:
    """One object a model; with an engine the model is checked, and no note is needed."""
    result = localhf("pull", NAME, "--format", "json")
    model = provisioning.show(NAME)
    assert model.manifest is not None
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {
            "name": NAME,
            "folder": str(store_home / NAME),
            "source": "hub",
            "revision": "main",
            "commit": hub.repositories[NAME].references["main"],
            "size_bytes": sum(path.stat().st_size for path in tiny.rglob("*") if path.is_file()),
            "dimension": checkpoints.DIMENSION,
            "fingerprint": model.manifest.fingerprint,
            "checked": True,
            "compiled": None,
            "packed": False,
            "trust_remote_code": False,
        }
    ]
    assert "note:" not in result.stderr


@pytest.mark.usefixtures("unchecked")
def test_lock_and_locked(hub: FakeHub, working_folder: Path, store_home: Path) -> None:
    """The lockfile that `lock` writes, `pull --lock` updates and `pull --locked` obeys is the same."""
    localhf("pull", NAME, "--lock", "a.lock")
    result = localhf("lock")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "wrote localhf.lock: 1 model\n")
    assert (working_folder / "localhf.lock").read_text() == (working_folder / "a.lock").read_text()
    result = localhf("lock", "tiny", "--file", "b.lock", "--format", "json")
    assert json.loads(result.stdout) == {"file": "b.lock", "models": [NAME]}
    localhf("remove", NAME)
    result = localhf("pull", "--locked")
    assert (result.exit_code, result.stdout) == (0, f"{store_home / NAME}\n")
    (working_folder / "b.lock").write_text("format = 2\n")
    result = localhf("pull", "--locked", "--lock", "b.lock")
    assert result.exit_code == 1
    assert result.stderr == "error: cannot read b.lock: Input should be 1 in format\n"
    assert len(hub.fetched()) == 20


@pytest.mark.usefixtures("hub")
def test_failed_pull() -> None:
    """An error is a message, a blank line and a hint; the exit code is 1."""
    result = localhf("pull", "org/nmae")
    assert (result.exit_code, result.stdout) == (1, "")
    message = result.stderr.removeprefix("asking the hub for org/nmae\n")
    assert message.startswith("error: there is no org/nmae on http://127.0.0.1:")
    assert message.endswith(
        ", or it is private\n\n"
        "hint: check the spelling; for a private model, log in with `hf auth login`, or put a token into HF_TOKEN\n"
    )


def test_add_and_list(tiny: Path, store_home: Path) -> None:
    """A table for people."""
    result = localhf("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no models yet; bring one: localhf pull MODEL\n"
    result = localhf("add", tiny, "--as", "tiny")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{store_home / NAME}\n", "")
    size = formatted_size(provisioning.show(NAME).manifest.size_bytes)  # type: ignore[union-attr]
    assert localhf("list").stdout == (
        "NAME                        COMMIT  SIZE      DIMENSION  CHECKED  CODE  COMPILED\n"
        f"{NAME}  -       {size}  32         yes      -     -\n"
    )
    listed = json.loads(localhf("list", "--format", "json").stdout)
    assert [model["name"] for model in listed] == [NAME]


def test_show(tmp_path: Path, store_home: Path) -> None:
    """Everything that is known, with the hash of every file."""
    folder = checkpoints.sentence_transformer(tmp_path / "e5", prompts={"query": "query: ", "passage": "größe: "})
    localhf("add", folder, "--as", "org/e5")
    manifest = provisioning.show("org/e5").manifest
    assert manifest is not None
    assert manifest.check is not None
    lines = localhf("show", "org/e5").stdout.splitlines()
    versions = ", ".join(f"{name} {version}" for name, version in manifest.check.versions.items())
    assert lines[:10] == [
        "name         org/e5",
        f"folder       {store_home / 'org/e5'}",
        "source       folder",
        "commit       -",
        f"size         {formatted_size(manifest.size_bytes)} in {len(manifest.files)} files",
        f"fingerprint  {manifest.fingerprint}",
        "dimension    32",
        "max tokens   64",
        "pooling      mean, normalized",
        "prompts      query='query: ', passage='größe: '",
    ]
    assert lines[10] == f"checked      with {versions}"
    first = manifest.files[0]
    assert lines[11] == f"  {first.sha256}  {first.size_bytes:>12}  {first.path}"
    assert len(lines) == 11 + len(manifest.files)
    shown = json.loads(localhf("show", "org/e5", "--format", "json").stdout)
    assert shown["manifest"] == json.loads(manifest.to_json())


@pytest.mark.usefixtures("unchecked")
def test_show_of_what_was_not_checked(hub: FakeHub, tiny: Path) -> None:
    """What is not known is said to be unknown."""
    localhf("pull", "tiny")
    commit = hub.repositories[NAME].references["main"]
    lines = localhf("show", "tiny").stdout.splitlines()
    assert f"commit       {commit} (main)" in lines
    assert "checked      no" in lines
    assert localhf("show", tiny).stdout == (
        f"name      tiny\nfolder    {tiny}\nmanifest  - (neither pulled nor added, so its files cannot be verified)\n"
    )
    assert json.loads(localhf("show", tiny, "--format", "json").stdout)["manifest"] is None


@pytest.mark.usefixtures("unchecked")
def test_show_of_unused_weights(tiny: Path) -> None:
    """Weights that the check found to be unused are listed."""
    localhf("add", tiny, "--as", "tiny")
    model = provisioning.show(NAME)
    assert model.manifest is not None
    check = {"versions": {"torch": "2"}, "unused_weights": ["pooler.bias", "pooler.weight"]}
    text = model.manifest.to_json().replace('"check": null', f'"check": {json.dumps(check)}')
    (model.folder / "localhf.json").write_text(text)
    assert "unused       pooler.bias, pooler.weight" in localhf("show", "tiny").stdout.splitlines()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("arguments", [[], ["--all"], ["tiny", "org/other"]])
def test_verify(tiny: Path, arguments: list[str]) -> None:
    """Exit code 1 and every difference, if there is one."""
    localhf("add", tiny, "--as", "org/other")
    localhf("add", tiny, "--as", "tiny")
    result = localhf("verify", *arguments)
    assert result.exit_code == 0
    assert sorted(result.stdout.splitlines()) == ["ok  org/other", f"ok  {NAME}"]
    folder = provisioning.show("tiny").folder
    (folder / "config.json").write_text("{}")
    (folder / "modules.json").unlink()
    (folder / "evil.py").write_text("")
    result = localhf("verify", *arguments)
    assert (result.exit_code, result.stderr) == (1, "")
    assert f"differs  {NAME}\n  changed  config.json\n  missing  modules.json\n  extra  evil.py\n" in result.stdout
    assert "ok  org/other\n" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["--all"]])
def test_verify_of_nothing(arguments: list[str]) -> None:
    """A store without models, perhaps a misspelt one, does not pass as verified."""
    result = localhf("verify", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "no models yet; bring one: localhf pull MODEL\n"


@pytest.mark.usefixtures("unchecked")
def test_verify_as_json(tiny: Path) -> None:
    """A program reads the same."""
    folder = provisioning.add(tiny, "tiny").folder
    (folder / "config.json").unlink()
    result = localhf("verify", "tiny", "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [
        {"name": NAME, "folder": str(folder), "ok": False, "changed": [], "missing": ["config.json"], "extra": []}
    ]


@pytest.mark.usefixtures("unchecked")
def test_remove(tiny: Path) -> None:
    """Says what went; an unknown name is told with the nearest one."""
    localhf("add", tiny, "--as", "tiny")
    result = localhf("remove", "tinny")
    assert result.exit_code == 1
    assert result.stderr.endswith(f"\n\nhint: did you mean {NAME}?\n")
    result = localhf("remove", "tiny")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"removed {NAME}\n")
    localhf("add", tiny, "--as", "tiny")
    assert json.loads(localhf("remove", "tiny", "--format", "json").stdout)["name"] == NAME
    assert provisioning.models() == []


def test_compile_and_pack(tiny: Path, store_home: Path, working_folder: Path) -> None:
    """The folder on stdout; on stderr how near the graph is to torch, as `show` tells later."""
    localhf("add", tiny, "--as", "tiny")
    result = localhf("compile", "tiny", "--precision", "f32")
    assert (result.exit_code, result.stdout) == (0, f"{store_home / NAME}\n")
    assert result.stderr.startswith(f"compiling {NAME}\n")
    measured = next(line for line in result.stderr.splitlines() if line.startswith("  f32: cosine to torch 1.000000"))
    assert localhf("list").stdout.splitlines()[1].endswith(" f32")
    assert localhf("verify").stdout == f"ok  {NAME}\n"
    result = localhf("pack", "tiny", "--to", "image")
    assert (result.exit_code, result.stdout) == (0, f"image/{NAME}\n")
    shown = localhf("show", working_folder / "image" / NAME).stdout
    assert "compiled     openvino, f32; its weights were left behind, with openvino " in shown
    assert measured.strip() in shown
    assert "openvino/model.bin\n" in shown
    assert "model.safetensors" not in shown


def test_compile_and_pack_as_json(tiny: Path, working_folder: Path) -> None:
    """The whole report, for programs; int8 learns from the lines of a file."""
    localhf("add", tiny, "--as", "tiny")
    (working_folder / "texts.txt").write_text("\n\n".join(CALIBRATION), encoding="utf-8")
    result = localhf("compile", "tiny", "--precision", "int8", "--calibration", "texts.txt", "--format", "json")
    report = json.loads(result.stdout)
    assert (report["name"], report["compiled"]) == (NAME, "int8")
    assert report["compilation"]["parity"][0]["texts"] == len(CALIBRATION)
    (packed,) = json.loads(localhf("pack", "tiny", "--to", "image", "--format", "json").stdout)
    assert (packed["name"], packed["packed"]) == (NAME, True)
    (working_folder / "texts.txt").write_bytes(b"\xff\xfe")
    result = localhf("compile", "tiny", "--precision", "int8", "--calibration", "texts.txt", "--force")
    assert result.exit_code == 2
    assert "texts.txt is no text in UTF-8" in result.stderr


def test_compile_a_cross_encoder(hub: FakeHub, tmp_path: Path) -> None:
    """What is said about its scores, when it is compiled and later."""
    hub.upload("org/reranker", checkpoints.classifier(tmp_path / "reranker"))
    assert localhf("pull", "org/reranker").exit_code == 0
    result = localhf("compile", "org/reranker")
    assert result.exit_code == 0
    measured = next(line for line in result.stderr.splitlines() if line.startswith("  f32: scores differ from torch's"))
    shown = localhf("show", "org/reranker").stdout
    assert measured.strip() in shown
    assert "checked      with sentence-transformers" in shown
    assert localhf("verify").stdout == "ok  org/reranker\n"


def test_pull_and_compile_without_what_compiles(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of the hub for a model that could not be compiled afterwards."""
    found = engines.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else found(name))
    result = localhf("pull", NAME, "--compile")
    assert (result.exit_code, hub.requests) == (1, [])
    assert 'hint: pip install "langchain-localhf[compile]"' in result.stderr


def test_locked_pull_of_what_is_compiled_already(
    hub: FakeHub, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs nothing that compiles, as where torch was left out on purpose."""
    assert localhf("pull", NAME, "--compile", "--lock", "localhf.lock").exit_code == 0
    found = engines.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "sentence_transformers" else found(name))
    result = localhf("pull", "--compile", "--locked")
    assert (result.exit_code, f"{NAME} is compiled already\n" in result.stderr) == (0, True), result.stderr


def test_pull_and_compile(hub: FakeHub, tiny: Path, store_home: Path) -> None:
    """In one command; a new commit of the model leaves the old graph behind, and says so."""
    result = localhf("pull", NAME, "--compile")
    assert (result.exit_code, result.stdout) == (0, f"{store_home / NAME}\n")
    assert f"compiling {NAME}\n" in result.stderr
    (tiny / "README.md").write_text("new")
    hub.upload(NAME, tiny)
    result = localhf("pull", NAME)
    assert f"note: what was compiled from the old files of {NAME} is gone; localhf compile {NAME}\n" in result.stderr
    assert localhf("list").stdout.splitlines()[1].endswith(" -")


@pytest.mark.usefixtures("unchecked")
def test_code_that_comes_with_a_model(hub: FakeHub, tmp_path: Path) -> None:
    """Refused without the flag; with it, `list` marks the model, and `show` says whose code it is."""
    folder = remote_checkpoints.alibi(positions=128).build(tmp_path / "jina")
    code = hub.repositories.setdefault(remote_checkpoints.REPOSITORY, Repository())
    vendored = folder / "code" / remote_checkpoints.REPOSITORY.replace("/", "--")
    commit = code.commit({path.name: path.read_bytes() for path in vendored.iterdir()})
    hub.upload("org/jina", folder)
    result = localhf("pull", "org/jina")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"of {remote_checkpoints.REPOSITORY} at commit {commit} (named in config.json)\n\nhint: " in result.stderr
    result = localhf("pull", "--trust-remote-code", "org/jina")
    assert result.exit_code == 0
    assert f"\n  and code of {remote_checkpoints.REPOSITORY}, commit {commit[:12]}: 2 files\n" in result.stderr
    assert localhf("list").stdout.splitlines()[1].split()[-3:] == ["no", "trusted", "-"]
    shown = localhf("show", "org/jina").stdout
    whose = f"{remote_checkpoints.REPOSITORY} at commit {commit}: configuration_bert.py, modeling_bert.py"
    assert f"\ncode         trusted\n             {whose}\n" in shown
    assert "modeling_bert.py\n" in shown.partition(whose)[2], "with its hash"
    assert json.loads(localhf("show", "org/jina", "--format", "json").stdout)["trust_remote_code"] is True


@pytest.mark.usefixtures("unchecked")
def test_add_with_code(tmp_path: Path) -> None:
    """The code of the model itself; nobody knows its commit."""
    folder = remote_checkpoints.growing().build(tmp_path / "model")
    result = localhf("add", folder, "--as", "org/own")
    assert result.exit_code == 1
    assert f"hint: read that code; if you trust it, `localhf add {folder} --as org/own --trust-remote-code`" in (
        result.stderr
    )
    assert localhf("add", "--trust-remote-code", folder, "--as", "org/own").exit_code == 0
    assert "\n             its own repository: bert_layers.py\n" in localhf("show", "org/own").stdout


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["pull"], "name a model, or use --locked to pull those of the lockfile", "localhf pull --help"),
        (["verify", "a/b", "--all"], "name models, or use --all", "localhf verify --help"),
        (["add", "."], "Missing option '--as'.", "localhf add --help"),
        (["list", "--format", "xml"], "Invalid value for '--format': 'xml' is not one of", "localhf list --help"),
        (["pul"], "No such command 'pul'.", "localhf --help"),
    ],
)
def test_misuse(arguments: list[str], error: str, hint: str) -> None:
    """Exit code 2, and where the help is."""
    result = localhf(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {error}")
    assert result.stderr.endswith(f"\n\nhint: {hint}\n")
