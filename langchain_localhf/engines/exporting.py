"""A language model for the OpenVINO engine: exported as a program, and compared with torch before anyone uses it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from langchain_localhf.engines.base import PROBE_TEXTS
from langchain_localhf.engines.generation.settings import Settings
from langchain_localhf.engines.openvino.export import export_language_model, find_optimum_cli
from langchain_localhf.engines.openvino.greedy import greedy_tokens
from langchain_localhf.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_localhf.engines.base import Generator

_PROMPTS = (*PROBE_TEXTS, "Once upon a time", "1, 2, 3, 4,", "The capital of France is")
_TOKENS = 8
# Rounding may decide between two tokens that are as likely as each other, but not for every prompt at once.
_LEAST_AGREEMENT = 0.5
_EXACT = {"fp32"}
_LIBRARIES = ("openvino", "openvino-genai")


def export(
    generator: Generator,
    folder: Path,
    target: Path,
    *,
    optimum_cli: Path | None,
    weight_format: str | None,
    trust_remote_code: bool,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Exports a language model to a new folder.

    Args:
        generator: The same model in torch.
        folder: Its checkpoint.
        target: The folder to make.
        optimum_cli: The exporter, if the user names one.
        weight_format: What to keep the weights in, as the exporter calls it; None leaves it to the exporter.
        trust_remote_code: Whether the exporter may run the model's code.
        say: Is told each line that the exporter writes.

    Raises:
        EngineNotInstalledError: There is no exporter.
        UnsupportedModelError: OpenVINO has no export for this kind of model.
        CheckpointError: The export failed, or what it made writes another text than torch.

    Returns:
        The versions of the libraries that are to run it.
    """
    export_language_model(
        folder,
        target,
        optimum_cli=find_optimum_cli(optimum_cli),
        weight_format=weight_format,
        trust_remote_code=trust_remote_code,
        say=say,
    )
    agreement = _agreement(generator, target)
    say(f"{agreement:.0%} of the likeliest tokens are those of torch")
    if weight_format in _EXACT and agreement < _LEAST_AGREEMENT:
        msg = f"the exported model writes another text than torch: {agreement:.0%} of the likeliest tokens agree"
        raise CheckpointError(msg, hint='nothing was written; use the model with backend="torch"')
    return {library: version(library) for library in _LIBRARIES}


def _agreement(generator: Generator, folder: Path) -> float:
    """The share of the tokens behind some prompts that are the same; what follows another token is not counted."""
    settings = Settings.read(generator, {"max_tokens": _TOKENS, "do_sample": False})
    prompts = [generator.read_prompt(text) for text in _PROMPTS]
    right = [
        [token.id for token in generation.answer().tokens]
        for generation in generator.submit([settings.request(generator, prompt) for prompt in prompts])
    ]
    found = greedy_tokens(folder, [prompt.token_ids for prompt in prompts], _TOKENS)
    same = total = 0
    for one, other in zip(right, found, strict=True):
        for expected, given in zip(one, other, strict=False):
            total += 1
            same += expected == given
            if expected != given:
                break
    return same / max(total, 1)
