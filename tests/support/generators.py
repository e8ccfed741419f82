"""The tiny language models on each engine, and what plain transformers makes of the same prompts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from langchain_localhf.engines.generation.settings import Settings
from langchain_localhf.loading import load_generator
from support import language_models, openvino_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.generation import Answer, Generation
    from langchain_localhf.loaded import LoadedGenerator

ENGINES = ("torch", "openvino")
PROMPTS = ("The quick", "What is the weather in Paris today? It is sunny", "a", "The ships sail out at dawn, again")
TASKS = {"t5": "text2text-generation", "llava": "image-text-to-text"}


def model_settings(engine: str, family: str) -> dict[str, Any]:
    """What `HuggingFacePipeline` takes for the tiny model of `family` on `engine`, exact to the last token."""
    if engine == "openvino":
        folder = openvino_models.folder(family)
        return {"model_id": str(folder), "backend": engine, "model_kwargs": {"ov_config": openvino_models.EXACT}}
    folder = language_models.vision_folder() if family == "llava" else language_models.folder(family)
    return {"model_id": str(folder), "backend": engine}


@cache
def loaded(engine: str, family: str) -> LoadedGenerator:
    """The tiny model of `family`, once for all tests."""
    return load_generator(**model_settings(engine, family), task=TASKS.get(family, "text-generation"))


def generator(engine: str, family: str) -> Generator:
    """The engine that runs it."""
    return loaded(engine, family).generator


def start(engine: Generator, prompts: Sequence[str], **settings: Any) -> list[Generation]:
    """Starts an answer for each prompt."""
    read = Settings.read(engine, settings)
    return engine.submit([read.request(engine, engine.read_prompt(prompt)) for prompt in prompts])


def finish(engine: Generator, prompts: Sequence[str], **settings: Any) -> list[Answer]:
    """The finished answers, one for each prompt."""
    return [generation.answer() for generation in start(engine, prompts, **settings)]


def ids(answer: Answer) -> list[int]:
    """The tokens of an answer."""
    return [token.id for token in answer.tokens]


@cache
def reference(family: str) -> tuple[Any, Any]:
    """The model and its tokenizer in plain transformers."""
    folder = language_models.folder(family)
    auto_model = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
    return auto_model.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def of_transformers(family: str, prompt: str, **settings: Any) -> list[int]:
    """The new tokens that plain transformers gives for one prompt."""
    model, tokenizer = reference(family)
    tokens = torch.tensor([tokenizer(prompt)["input_ids"]])
    found = model.generate(
        input_ids=tokens, attention_mask=torch.ones_like(tokens), do_sample=False, pad_token_id=0, **settings
    )
    return found[0, 1 if family == "t5" else tokens.shape[1] :].tolist()


def log_probabilities(family: str, prompt: str, continuation: Sequence[int]) -> torch.Tensor:
    """Those of plain transformers for each token behind the prompt. Shape: `(len(continuation), vocabulary)`."""
    model, tokenizer = reference(family)
    tokens = tokenizer(prompt)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([[*tokens, *continuation]])).logits[0, len(tokens) - 1 : -1]
    return torch.log_softmax(logits, dim=-1)
