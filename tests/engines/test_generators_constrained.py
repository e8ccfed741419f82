"""Answers of a required form, from models that know nothing of it, on each engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from support.generators import ENGINES, PROMPTS, generator, ids, log_probabilities

from langchain_localhf.engines.generation.request import Constraint, Tag
from langchain_localhf.engines.generation.settings import Settings
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.generation import Answer, Generation

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120, "multipleOf": 3},
        "tags": {"type": "array", "items": {"enum": ["red", "light goldenrod yellow"]}, "minItems": 1},
        "size": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "required": ["name", "age", "tags", "size"],
    "additionalProperties": False,
}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL = Tag('<tool_call>{"name": "get", "arguments": ', CITY, "}</tool_call>", "<tool_call>")


@pytest.fixture(params=ENGINES)
def qwen2(request: pytest.FixtureRequest) -> Generator:
    """A tiny model on each engine in turn."""
    return generator(request.param, "qwen2")


def begin(engine: Generator, constraint: Constraint, prompt: str = "Who?", **settings: Any) -> Generation:
    """Starts an answer in that form."""
    read = Settings.read(engine, {"max_tokens": 80, **settings})
    request = read.request(
        engine, engine.read_prompt(prompt), constraint=constraint, markers=("<tool_call>", "</think>")
    )
    return engine.submit([request])[0]


def answer(engine: Generator, constraint: Constraint, prompt: str = "Who?", **settings: Any) -> Answer:
    """The finished answer in that form."""
    return begin(engine, constraint, prompt, **settings).answer()


def value(schema: dict[str, Any]) -> Constraint:
    """One JSON value as the whole answer."""
    return Constraint((Tag("", schema),))


@pytest.mark.parametrize("seed", range(5))
def test_a_sampled_answer_is_valid_and_complete(seed: int, qwen2: Generator) -> None:
    """Whatever chance says, and however little room there is."""
    found = answer(qwen2, value(PERSON), seed=seed, temperature=1.5, top_k=0, max_tokens=60)
    jsonschema.validate(json.loads(found.text), PERSON)
    assert found.finish_reason == "stop"


def test_answers_of_several_forms_are_written_side_by_side(qwen2: Generator) -> None:
    """Each follows its own, among answers that follow none."""
    free = qwen2.submit(
        [Settings.read(qwen2, {"max_tokens": 60}).request(qwen2, qwen2.read_prompt(p)) for p in PROMPTS]
    )
    bound = [begin(qwen2, value(PERSON), prompt, seed=1) for prompt in PROMPTS]
    others = [begin(qwen2, value(CITY), prompt) for prompt in PROMPTS]
    for generation in bound:
        jsonschema.validate(json.loads(generation.answer().text), PERSON)
    for generation in others:
        jsonschema.validate(json.loads(generation.answer().text), CITY)
    assert all(generation.answer().text for generation in free)


def test_engines_write_the_same_answer() -> None:
    """Without chance, a form leads to the same tokens everywhere."""
    for constraint in (value(PERSON), Constraint((CALL,)), Constraint((CALL,), after="</think>")):
        first, second = (answer(generator(engine, "qwen2"), constraint, max_tokens=100) for engine in ENGINES)
        assert ids(first) == ids(second)
        assert first.text == second.text


def test_log_probabilities_are_those_before_the_form_was_asked_for(qwen2: Generator) -> None:
    """As the model would have them by itself."""
    found = answer(qwen2, value(CITY), max_tokens=20, logprobs=True, top_logprobs=1)
    assert ids(found) == ids(answer(qwen2, value(CITY), max_tokens=20))
    expected = log_probabilities("qwen2", "Who?", ids(found))
    for place, token in enumerate(found.tokens):
        assert token.logprob == pytest.approx(expected[place, token.id].item(), abs=1e-3)
        assert [other for other, _ in token.alternatives] == expected[place].topk(1).indices.tolist()


def test_a_call_has_its_own_marks(qwen2: Generator) -> None:
    """What stands before and behind the value is part of the form."""
    found = answer(qwen2, Constraint((CALL,)), seed=2)
    body = found.text.removeprefix('<tool_call>{"name": "get", "arguments": ').removesuffix("}</tool_call>")
    jsonschema.validate(json.loads(body), CITY)


def test_what_begins_like_a_call_in_free_text_is_one(qwen2: Generator) -> None:
    """And may be followed by other text."""
    constraint, settings = Constraint((CALL,), free_text=True), {"temperature": 3.0, "top_k": 0, "max_tokens": 400}
    generations = [begin(qwen2, constraint, seed=seed, **settings) for seed in range(12)]
    parts = [part for one in generations for part in one.answer().text.split("<tool_call>")[1:]]
    assert parts
    for part in parts:
        body, closed, _ = part.removeprefix('{"name": "get", "arguments": ').partition("}</tool_call>")
        assert closed
        jsonschema.validate(json.loads(body), CITY)


def test_thoughts_come_first(qwen2: Generator) -> None:
    """Up to the marker, which comes while there is room for the answer."""
    found = answer(qwen2, Constraint((Tag("", CITY),), after="</think>"), seed=1, max_tokens=100)
    thoughts, marker, rest = found.text.partition("</think>")
    assert thoughts
    assert marker
    jsonschema.validate(json.loads(rest), CITY)


def test_a_seed_repeats_an_answer_of_a_form(qwen2: Generator) -> None:
    """Also among others."""
    alone = answer(qwen2, value(PERSON), seed=4)
    others = [begin(qwen2, value(PERSON), prompt, seed=5) for prompt in PROMPTS]
    assert ids(answer(qwen2, value(PERSON), seed=4)) == ids(alone)
    assert all(other.answer().text for other in others)


def test_a_stream_of_a_form_can_be_left(qwen2: Generator) -> None:
    """Nothing goes on behind it, and the model is free for others."""
    pieces = iter(begin(qwen2, value(PERSON), seed=1, max_tokens=200))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert answer(qwen2, value({"const": 1})).text == "1"


def test_a_schema_that_cannot_be_guaranteed_is_refused_at_once(qwen2: Generator) -> None:
    """Before the model runs."""
    with pytest.raises(InputError, match="cannot be guaranteed"):
        begin(qwen2, value({"type": "array", "uniqueItems": True, "items": {"type": "integer"}}))
