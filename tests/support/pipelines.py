"""One tiny model as a pipeline of either package, and a look at what reaches it."""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Any

import langchain_huggingface
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationMixin, LlamaForCausalLM, pipeline

from langchain_localhf import HuggingFacePipeline
from support import language_models

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

# Without chance, so that both sides write the same text.
SETTINGS = {"max_new_tokens": 16, "do_sample": False}


def ours(model: str | Path = "llama", task: str = "text-generation", **arguments: Any) -> HuggingFacePipeline:
    """A model in this package: one of the tiny families, or a folder."""
    return HuggingFacePipeline.from_model_id(**_arguments(model, task, arguments))


def theirs(
    model: str | Path = "llama", task: str = "text-generation", **arguments: Any
) -> langchain_huggingface.HuggingFacePipeline:
    """The same in langchain-huggingface."""
    return langchain_huggingface.HuggingFacePipeline.from_model_id(**_arguments(model, task, arguments))


def _arguments(model: str | Path, task: str, arguments: dict[str, Any]) -> dict[str, Any]:
    folder = language_models.folder(model) if isinstance(model, str) else model
    settings = SETTINGS | (arguments.pop("pipeline_kwargs", None) or {})
    return {"model_id": str(folder), "task": task, "pipeline_kwargs": settings, **arguments}


def transformers_pipeline(family: str = "llama", **settings: Any) -> Any:
    """A transformers pipeline, as users make their own."""
    folder = language_models.folder(family)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return pipeline("text-generation", model=model, tokenizer=tokenizer, **SETTINGS | settings)


def watch_generate(patch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """Records the tokens of the prompts, padding included, in each call of transformers' `generate` from now on."""
    real = GenerationMixin.generate
    calls: list[list[list[int]]] = []

    def watched(self: Any, *args: Any, **settings: Any) -> Any:
        calls.append(settings["input_ids"].tolist())
        return real(self, *args, **settings)

    patch.setattr(GenerationMixin, "generate", watched)
    return calls


def watch_rows(patch: pytest.MonkeyPatch) -> list[int]:
    """Records how many rows each step of the tiny llama computes from now on."""
    real = LlamaForCausalLM.forward
    rows: list[int] = []

    def watched(self: Any, *args: Any, **inputs: Any) -> Any:
        rows.append(len(inputs["input_ids"]))
        return real(self, *args, **inputs)

    patch.setattr(LlamaForCausalLM, "forward", functools.wraps(real)(watched))
    return rows


class Steps:
    """Counts the steps of a pipeline's model, and makes them as slow as those of a large one.

    Args:
        of: The pipeline.
        seconds: How long each step takes.
        first: How long the first one takes.
    """

    def __init__(self, of: Any, *, seconds: float = 0.0, first: float = 0.0) -> None:
        self.count = 0
        self._seconds, self._first = seconds, first
        of.model.register_forward_pre_hook(self._step)

    def _step(self, *_: Any) -> None:
        time.sleep(self._seconds if self.count else self._first)
        self.count += 1


def wait_for_threads(before: set[threading.Thread]) -> None:
    """Waits for the end of every thread that has been started since."""
    for thread in set(threading.enumerate()) - before:
        thread.join()
