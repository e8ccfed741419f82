"""Language models leave for OpenVINO through the real `optimum-cli`, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from openvino_genai import Tokenizer as GraphTokenizer
from safetensors.torch import load_file, save_file
from support import language_models
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from langchain_localhf.engines.openvino import runtime
from langchain_localhf.engines.openvino.export import (
    TOKENIZER_FILES,
    export_language_model,
    find_optimum_cli,
    make_tokenizers,
)
from langchain_localhf.engines.openvino.greedy import greedy_tokens
from langchain_localhf.errors import (
    CheckpointError,
    EngineError,
    EngineNotInstalledError,
    LocalHFError,
    UninitializedWeightsError,
    UnsupportedModelError,
)

PROMPTS = ([5, 6, 7], [40, 41, 42, 43, 44, 45, 46], [300])


def _real_optimum_cli() -> Path | None:
    """The program that the environment names, that of `make export-env`, or the one on the PATH."""
    named = os.environ.get("LOCALHF_OPTIMUM_CLI")
    made = Path(__file__).parents[3] / ".venv-export" / "bin" / "optimum-cli"
    found = named or (str(made) if made.exists() else shutil.which("optimum-cli"))
    return Path(found) if found else None


REAL = _real_optimum_cli()  # now: a test's own environment names none
needs_optimum_cli = pytest.mark.skipif(REAL is None, reason="no optimum-cli: `make export-env` makes one")


def _quiet(line: str) -> None:
    """Takes what the exporter writes."""


def _export(folder: Path, target: Path, *, optimum_cli: Path, weight_format: str | None = "fp32") -> list[str]:
    said: list[str] = []
    export_language_model(
        folder,
        target,
        optimum_cli=optimum_cli,
        task="text-generation-with-past",
        weight_format=weight_format,
        trust_remote_code=False,
        say=said.append,
    )
    return said


@cache
def _exported(family: str, weight_format: str) -> Path:
    """A tiny model exported once for every test that reads it."""
    assert REAL is not None
    target = Path(mkdtemp(prefix="localhf-tests-")) / "exported"
    _export(language_models.folder(family), target, optimum_cli=REAL, weight_format=weight_format)
    return target


def _by_torch(folder: Path, count: int) -> list[list[int]]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    options = {"do_sample": False, "max_new_tokens": count, "min_new_tokens": count, "eos_token_id": None}
    answers = [
        model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            pad_token_id=0,
            **options,
        )
        for prompt in PROMPTS
    ]
    return [answer[0, len(prompt) :].tolist() for answer, prompt in zip(answers, PROMPTS, strict=True)]


def _program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@needs_optimum_cli
@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_an_export_continues_as_torch_does(family: str) -> None:
    """The exported graph finds the same likeliest tokens as torch does with the checkpoint."""
    assert greedy_tokens(_exported(family, "fp32"), PROMPTS, 12) == _by_torch(language_models.folder(family), 12)


@needs_optimum_cli
@pytest.mark.parametrize("weight_format", ["int8", "int4"])
def test_weights_can_be_compressed(weight_format: str) -> None:
    """A small model, too, can be compressed to 8 and to 4 bits: it is smaller, and runs."""
    folder = _exported("gpt2", weight_format)
    whole = _exported("gpt2", "fp32") / "openvino_model.bin"
    assert (folder / "openvino_model.bin").stat().st_size < 0.5 * whole.stat().st_size
    assert [len(tokens) for tokens in greedy_tokens(folder, PROMPTS, 4)] == [4, 4, 4]


@needs_optimum_cli
@pytest.mark.parametrize("weight_format", ["fp32", "int4"])
def test_an_export_brings_all_that_a_run_needs(weight_format: str) -> None:
    """Beside the graphs lie the model's own descriptions, byte for byte, and nothing that names this machine."""
    family = {"fp32": "qwen2", "int4": "gpt2"}[weight_format]
    original, exported = language_models.folder(family), _exported(family, weight_format)
    described = {path.name for path in original.iterdir() if path.suffix != ".safetensors"}
    graphs = {"openvino_model.bin", "openvino_model.xml", *TOKENIZER_FILES}
    assert {path.name for path in exported.iterdir()} == described | graphs
    for name in described:
        assert (exported / name).read_bytes() == (original / name).read_bytes()
    for path in exported.iterdir():
        assert str(original.parent).encode() not in path.read_bytes()


@needs_optimum_cli
def test_missing_tokenizers_are_made(tmp_path: Path) -> None:
    """Tokenizer and detokenizer graphs that an exported folder lacks are added; there already, they stay."""
    assert REAL is not None
    folder = shutil.copytree(_exported("qwen2", "fp32"), tmp_path / "exported")
    files = {path.name for path in folder.iterdir()}
    (folder / "openvino_detokenizer.xml").unlink()
    make_tokenizers(folder, optimum_cli=REAL, trust_remote_code=False, say=_quiet)
    assert {path.name for path in folder.iterdir()} == files
    # With all of them there, not even the program is needed.
    make_tokenizers(folder, optimum_cli=tmp_path / "none", trust_remote_code=False, say=_quiet)


@needs_optimum_cli
def test_tokenizer_graphs_are_those_of_the_models_own_tokenizer(tmp_path: Path) -> None:
    """A tokenizer that the exporter's transformers rebuilds wrongly is converted as its file says."""
    assert REAL is not None
    folder = language_models.copy("llama", tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["tokenizer_class"] = "LlamaTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    _export(folder, tmp_path / "target", optimum_cli=REAL)
    text = "Größe, 東京: two  spaces"
    expected = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    found = runtime.apart(GraphTokenizer(tmp_path / "target").encode(text).input_ids.data.tolist)
    assert found == [expected]


@needs_optimum_cli
def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    """What the exporter does not know is refused in its own words, and leaves nothing."""
    assert REAL is not None
    folder = language_models.copy("gpt2", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "nonesuch"}), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match="model type `nonesuch`") as caught:
        _export(folder, tmp_path / "target", optimum_cli=REAL)
    assert "optimum-cli export openvino --model" in str(caught.value.hint)
    assert os.listdir(tmp_path) == ["model"]  # noqa: PTH208 - hidden files, too


@needs_optimum_cli
def test_weights_that_would_be_random_are_refused(tmp_path: Path) -> None:
    """A checkpoint without its head is refused; the exporter alone would fill in random numbers."""
    assert REAL is not None
    folder = language_models.copy("llama", tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UninitializedWeightsError) as caught:
        _export(folder, tmp_path / "target", optimum_cli=REAL)
    assert caught.value.missing == ("lm_head.weight",)
    assert os.listdir(tmp_path) == ["model"]  # noqa: PTH208 - hidden files, too


@needs_optimum_cli
@pytest.mark.parametrize("weight_format", ["fp32", "int8"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, weight_format: str) -> None:
    """Where the graph cannot be written whole, the export fails and leaves nothing behind."""
    small = _program(tmp_path / "optimum-cli", f'trap "" XFSZ; ulimit -f 128; exec {REAL} "$@"')
    with pytest.raises(CheckpointError, match=f"make room on the disk of {tmp_path}, which has"):
        _export(language_models.folder("gpt2"), tmp_path / "target", optimum_cli=small, weight_format=weight_format)
    assert os.listdir(tmp_path) == ["optimum-cli"]  # noqa: PTH208 - hidden files, too


@needs_optimum_cli
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare, which takes the network away")
def test_an_export_needs_no_network(tmp_path: Path) -> None:
    """The export works where there is no network, whatever the environment says about being online."""
    confined = subprocess.run(["unshare", "--map-root-user", "--net", "true"], check=False)  # noqa: S607
    if confined.returncode:
        pytest.skip("this machine lets nobody take the network away")
    alone = _program(tmp_path / "optimum-cli", f'exec unshare --map-root-user --net {REAL} "$@"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "0")
        patch.setenv("TRANSFORMERS_OFFLINE", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        _export(language_models.folder("qwen2"), tmp_path / "target", optimum_cli=alone)
    assert (tmp_path / "target" / "openvino_tokenizer.xml").is_file()


def test_a_failing_exporter_is_quoted(tmp_path: Path) -> None:
    """The message of its last exception is told, what that was raised from, and the command that shows the rest."""
    script = """\
echo 'Loading weights: 100%'
cat >&2 <<'END'
Traceback (most recent call last):
  File "inner.py", line 1, in <module>
KeyError: 'first'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "middle.py", line 2, in <module>
OSError: cannot read

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "outer.py", line 3, in <module>
    raise RuntimeError(
RuntimeError: the tensor does not fit:
  expected 3
END
exit 1"""
    with pytest.raises(CheckpointError) as caught:
        _export(tmp_path, tmp_path / "target", optimum_cli=_program(tmp_path / "optimum-cli", script))
    told = "optimum-cli failed: RuntimeError: the tensor does not fit: expected 3, from OSError: cannot read"
    assert (type(caught.value), caught.value.message) == (CheckpointError, told)
    assert f"--model {tmp_path}" in str(caught.value.hint)
    assert os.listdir(tmp_path) == ["optimum-cli"]  # noqa: PTH208 - hidden files, too


@pytest.mark.parametrize(
    ("script", "error", "message", "hint"),
    [
        ("echo 'some words'; exit 3", CheckpointError, "failed: some words", "its whole log"),
        ("exit 3", CheckpointError, "failed: it says nothing", "its whole log"),
        ("exit 0", CheckpointError, "wrote no graph", "fp32 DIR"),
        ("kill -9 $$", CheckpointError, "ended by SIGKILL, as where memory runs out", "its whole log"),
        (
            "echo \"error: argument export: invalid choice: 'openvino'\"; exit 2",
            EngineNotInstalledError,
            "cannot export to OpenVINO",
            "optimum-intel",
        ),
        (
            "echo 'RuntimeError: operator torchvision::nms does not exist'; exit 1",
            EngineError,
            "is broken",
            "uninstall -y torchvision",
        ),
    ],
)
def test_how_an_exporter_fails(tmp_path: Path, script: str, error: type[LocalHFError], message: str, hint: str) -> None:
    """Every way to fail has an error of its own kind, a cause and a hint, and leaves nothing behind."""
    with pytest.raises(error, match=message) as caught:
        _export(tmp_path, tmp_path / "target", optimum_cli=_program(tmp_path / "optimum-cli", script))
    assert hint in str(caught.value.hint)
    assert os.listdir(tmp_path) == ["optimum-cli"]  # noqa: PTH208 - hidden files, too


def test_an_interrupt_ends_the_exporter(tmp_path: Path) -> None:
    """Ctrl-C does not leave the exporter running, nor anything of what it wrote."""
    program = _program(
        tmp_path / "optimum-cli", f'echo $$ > {tmp_path}/process; for last; do true; done; mkdir "$last"; exec sleep 60'
    )

    def interrupt() -> None:
        while not list(tmp_path.glob(".target-*/model")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        _export(tmp_path, tmp_path / "target", optimum_cli=program)
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text(encoding="utf-8")), 0)
    assert sorted(os.listdir(tmp_path)) == ["optimum-cli", "process"]  # noqa: PTH208 - hidden files, too


def test_what_the_exporter_is_told(tmp_path: Path) -> None:
    """Trust is passed on where it is given; small models need a way out for groups of 4-bit weights that do not fit."""
    program = _program(
        tmp_path / "optimum-cli",
        'echo "$@"; for last; do true; done; mkdir "$last"; cd "$last"; touch openvino_model.xml openvino_config.json',
    )
    said: list[str] = []
    export_language_model(
        tmp_path / "model",
        tmp_path / "target",
        optimum_cli=program,
        task="text-generation-with-past",
        weight_format="int4",
        trust_remote_code=True,
        say=said.append,
    )
    told = f"export openvino --model {tmp_path}/model --task text-generation-with-past --weight-format int4"
    assert said[0].startswith(f"{told} --group-size-fallback adjust --trust-remote-code {tmp_path}/.target-")
    # This environment has no converter of tokenizers: the export succeeds, and says so.
    assert said[1].startswith("without graphs of the tokenizer: ")
    assert os.listdir(tmp_path / "target") == ["openvino_model.xml"]  # noqa: PTH208 - hidden files, too


def test_finding_the_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is named counts, else the first on the PATH."""
    program = _program(tmp_path / "optimum-cli", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_optimum_cli() == program
    other = _program(tmp_path / "other", "exit 0")
    assert find_optimum_cli(other) == other


def test_without_an_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, the hint says how to make an environment with one, and how to name it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for configured in (None, tmp_path / "none", tmp_path):
        with pytest.raises(EngineNotInstalledError) as caught:
            find_optimum_cli(configured)
        assert "-m venv" in str(caught.value.hint)
        assert "export LOCALHF_OPTIMUM_CLI=" in str(caught.value.hint)


def test_an_exporter_that_cannot_start(tmp_path: Path) -> None:
    """An environment that was moved, so that its programs name a Python that is gone, is called not installed."""
    program = tmp_path / "optimum-cli"
    program.write_text("#!/nowhere/bin/python\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(EngineNotInstalledError, match="cannot be run"):
        _export(tmp_path, tmp_path / "target", optimum_cli=program)
