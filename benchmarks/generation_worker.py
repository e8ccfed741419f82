"""A contestant that generates text; the benchmark starts it in the contestant's own environment, see `protocol.py`."""

from __future__ import annotations

import json
import sys
import time
import warnings
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedding_worker import memory, texts
from protocol import serve

if TYPE_CHECKING:
    from langchain_core.language_models.llms import BaseLLM

SETTINGS = json.loads(sys.argv[1])


_PIPELINE = {"do_sample": False, "return_full_text": False}


@cache
def llm() -> BaseLLM:
    """The class of the same name in langchain_huggingface and in langchain_localhf, made once."""
    warnings.simplefilter("ignore")
    fields: dict[str, Any] = dict(SETTINGS["arguments"])
    package = import_module(fields.pop("package"))
    return package.HuggingFacePipeline.from_model_id(task="text-generation", pipeline_kwargs=dict(_PIPELINE), **fields)


def batch(path: str, new_tokens: int) -> dict[str, Any]:
    """The seconds that the prompts of a file take together, and the answers."""
    start = time.perf_counter()
    answers = llm().batch(texts(path), pipeline_kwargs=_PIPELINE | {"max_new_tokens": new_tokens})
    return {"seconds": time.perf_counter() - start, "answers": answers}


def first_token(prompt: str) -> float:
    """The seconds until a stream gives text; the rest of the answer is read, too."""
    start = time.perf_counter()
    stream = llm().stream(prompt, pipeline_kwargs=_PIPELINE | {"max_new_tokens": 8})
    next((piece for piece in stream if piece), None)
    seconds = time.perf_counter() - start
    for _ in stream:
        pass
    return seconds


if __name__ == "__main__":
    serve({"batch": batch, "first_token": first_token, "memory": memory})
