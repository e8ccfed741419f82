"""Language models for OpenVINO, exported by the real `optimum-cli`: a whole folder, or none.

What is exported runs without transformers: the graph, and the model's own descriptions of itself and its tokenizer.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from langchain_localhf.engines.openvino.optimum_cli import by_hand, find_optimum_cli, run
from langchain_localhf.errors import CheckpointError, EngineNotInstalledError, UninitializedWeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["TOKENIZER_FILES", "WEIGHT_FORMATS", "export_language_model", "find_optimum_cli", "make_tokenizers"]

WEIGHT_FORMATS = ("fp32", "fp16", "int8", "int4")
TOKENIZER_FILES = tuple(
    f"openvino_{part}.{suffix}" for suffix in ("bin", "xml") for part in ("tokenizer", "detokenizer")
)

# What describes a model and its tokenizer. The exporter writes these anew, with its own version of transformers.
_DESCRIPTIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_HARD_TEXTS = (
    "Hello world",
    " two  spaces\n\n\tand a tab",
    "it's 12,345.67",
    "Größe, 東京, Привет 😀",
    "def f(x):\n    return x",
)
_FRESH_WEIGHT = re.compile(r"(\S.*?)\s*\|\s*MISSING\s*\|")


def export_language_model(
    folder: Path,
    target: Path,
    *,
    optimum_cli: Path,
    task: str = "text-generation-with-past",
    weight_format: str | None = None,
    trust_remote_code: bool = False,
    say: Callable[[str], None],
) -> None:
    """Exports the language model in `folder` to a new folder, which has all that a run without transformers needs.

    Args:
        folder: A Hugging Face checkpoint.
        target: The folder to make; its parent is there. It appears complete or not at all.
        optimum_cli: The program, from `find_optimum_cli`.
        task: As `optimum-cli` names it.
        weight_format: One of `WEIGHT_FORMATS`; None for the exporter's choice: int8 from a billion parameters on.
        trust_remote_code: Whether to run the Python of the model's folder.
        say: Is told each line that the exporter writes.

    Raises:
        EngineNotInstalledError: The program is not there, or cannot export to OpenVINO.
        UnsupportedModelError: OpenVINO has no export for this kind of model.
        UninitializedWeightsError: The exporter would fill in weights that the checkpoint does not hold.
        CheckpointError: The export failed; the message has the exporter's own words.
    """
    options = ["--model", str(folder), "--task", task]
    if weight_format is not None:
        options += ["--weight-format", weight_format]
    if weight_format == "int4":
        # Small models have layers that no group of 128 fits into; without this they do not export at all.
        options += ["--group-size-fallback", "adjust"]
    if trust_remote_code:
        options += ["--trust-remote-code"]
    command = [str(optimum_cli), "export", "openvino", *options]
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        made = Path(scratch) / "model"
        command += [str(made)]
        _refuse_fresh_weights(folder, run(command, scratch=Path(scratch), say=say))
        if not list(made.glob("openvino*model.xml")):
            hint = f"see what it says: {by_hand(command, Path(scratch))}"
            raise CheckpointError(f"{optimum_cli} wrote no graph of {folder}", hint=hint)
        # It holds nothing but how the weights were compressed, and where the model lay on this machine.
        (made / "openvino_config.json").unlink(missing_ok=True)
        _restore_descriptions(folder, made)
        try:
            make_tokenizers(made, optimum_cli=optimum_cli, trust_remote_code=trust_remote_code, say=say)
        except (EngineNotInstalledError, CheckpointError) as error:  # a run can do without them
            say(f"without graphs of the tokenizer: {error.message}")
        made.replace(target)


def make_tokenizers(
    folder: Path,
    *,
    optimum_cli: Path,
    trust_remote_code: bool = False,
    say: Callable[[str], None],
) -> None:
    """Adds the tokenizer and the detokenizer as OpenVINO graphs, where an exported folder lacks one.

    Our own engine does without them; other programs that use openvino-genai do not.

    Raises:
        EngineNotInstalledError: The environment of optimum-cli lacks openvino-tokenizers.
        CheckpointError: The tokenizer cannot be converted.
    """
    if all((folder / name).is_file() for name in TOKENIZER_FILES):
        return
    program = optimum_cli.resolve()
    converter = program.with_name(f"convert_tokenizer{program.suffix}")
    with TemporaryDirectory(dir=folder, prefix=".tokenizers-") as scratch:
        made = Path(scratch) / "made"
        command = [str(converter), str(_as_it_is(folder, Path(scratch))), "--with-detokenizer", "--left-padding"]
        if trust_remote_code:
            command += ["--trust-remote-code"]
        run([*command, "--output", str(made)], scratch=Path(scratch), say=say)
        for name in _present(TOKENIZER_FILES, made):
            (made / name).replace(folder / name)


def _present(names: Sequence[str], folder: Path) -> list[str]:
    return [name for name in names if (folder / name).is_file()]


def _as_it_is(folder: Path, scratch: Path) -> Path:
    """The tokenizer of `folder` under a class that reads tokenizer.json as it is, as our engines do.

    Older versions of transformers, of which the exporter's is one, rebuild the tokenizers of some classes by their own
    idea of them, and then read other tokens.
    """
    if not (folder / "tokenizer.json").is_file():
        return folder
    plain = scratch / "tokenizer"
    plain.mkdir()
    for name in _present(_DESCRIPTIONS, folder):
        shutil.copyfile(folder / name, plain / name)
    settings = plain / "tokenizer_config.json"
    config = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    config.pop("auto_map", None)
    settings.write_text(json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8")
    return plain


def _restore_descriptions(folder: Path, exported: Path) -> None:
    """Puts the model's own descriptions into its export; drops graphs of a tokenizer that reads otherwise than its own.

    The descriptions that the exporter writes are those that its transformers understood.
    """
    own, rewritten = folder / "tokenizer.json", exported / "tokenizer.json"
    if own.is_file() and rewritten.is_file() and not _read_alike(own, rewritten):
        for name in _present(TOKENIZER_FILES, exported):
            (exported / name).unlink()
    for name in _present(_DESCRIPTIONS, folder):
        shutil.copyfile(folder / name, exported / name)


def _read_alike(*files: Path) -> bool:
    """Whether the tokenizers of two files give the same tokens, as far as some hard texts tell."""
    one, other = (Tokenizer.from_file(str(file)) for file in files)
    return all(one.encode(text).ids == other.encode(text).ids for text in _HARD_TEXTS)


def _refuse_fresh_weights(folder: Path, log: Sequence[str]) -> None:
    """The exporter only reports what it fills with random numbers."""
    found = map(_FRESH_WEIGHT.match, log)
    missing = sorted(match[1] for match in found if match)
    if missing:
        msg = f"{folder} lacks weights of the model: {', '.join(missing[:5])}"
        raise UninitializedWeightsError(msg, missing=missing, hint="use a checkpoint of the whole model")
