"""Measures those who generate text: a batch of prompts, the first token of a stream, memory and size."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import corpus
import prepare
from side_by_side import in_turns, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from contestants import Contestant
    from environments import Environments
    from protocol import Worker

_WORKER = "generation_worker.py"


def prepared(contestants: Sequence[Contestant], environments: Environments) -> None:
    """Makes the models."""
    say("preparing the language model")
    prepare.language_model(environments.shared / "lm")
    if any(one.arguments.get("backend") for one in contestants):
        python = environments.python("export")
        prepare.language_model_openvino(environments.shared / "lm", environments.shared / "lm-openvino", python)


def measure(
    contestants: Sequence[Contestant], environments: Environments, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Everything about each contestant; every round has prompts of its own, so that nobody answers from memory."""
    rounds, tokens = arguments.rounds, arguments.new_tokens
    batches = corpus.prompts(rounds + 1, arguments.prompts)
    paths = [environments.write(f"prompts-{number}", prompts) for number, prompts in enumerate(batches)]
    with ExitStack() as stack:
        workers = {one.name: stack.enter_context(environments.start(one, _WORKER)) for one in contestants}
        answers = {}
        for name, worker in workers.items():
            say(f"warming up {name}")
            answers[name] = worker.ask("batch", path=paths[0], new_tokens=tokens)["answers"]
        say("generating text")
        turns = {name: partial(next, _batches(worker, paths[1:], tokens)) for name, worker in workers.items()}
        batch = in_turns(turns, rounds)
        prompts = corpus.long_prompts(2 * rounds)
        turns = {name: partial(next, _first_tokens(worker, prompts)) for name, worker in workers.items()}
        first = in_turns(turns, len(prompts))
        return {
            one.name: {
                "batch": batch[one.name],
                "first_token": first[one.name],
                "memory": workers[one.name].ask("memory"),
                **environments.installed(one.environment),
                "same_answers": _same(answers[one.name], answers[contestants[0].name]),
            }
            for one in contestants
        }


def _same(answers: Sequence[str], others: Sequence[str]) -> float:
    """What part of the answers has the same words; versions of transformers differ in how an answer begins."""
    pairs = zip(answers, others, strict=True)
    return sum(one.replace("##", "").split() == other.replace("##", "").split() for one, other in pairs) / len(others)


def _batches(worker: Worker, paths: Sequence[str], new_tokens: int) -> Iterator[float]:
    for path in paths:
        yield worker.ask("batch", path=path, new_tokens=new_tokens)["seconds"]


def _first_tokens(worker: Worker, prompts: Sequence[str]) -> Iterator[float]:
    for prompt in prompts:
        yield worker.ask("first_token", prompt=prompt)
