"""Answers of a required form, from scores that know nothing of it."""

from __future__ import annotations

import json
import re
import threading
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jsonschema
import numpy as np
import pytest
from pydantic import BaseModel, Field, SecretStr
from support.language_models import tokenizer
from transformers import AddedToken
from transformers.convert_slow_tokenizer import bytes_to_unicode

from langchain_localhf.engines.generation.request import Constraint, Tag
from langchain_localhf.engines.grammar.grammars import Grammars
from langchain_localhf.engines.torch.prompts import words_of
from langchain_localhf.errors import EngineError, InputError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_localhf.engines.grammar.grammars import Matcher

WIDTH = len(tokenizer()) + 8  # as many models, whose vocabulary is filled up to a round number
END = 0
LETTER = tokenizer().convert_tokens_to_ids("a")
IDS = tokenizer().get_added_vocab()
DIGITS = tuple(tokenizer().convert_tokens_to_ids(list("0123456789")))
_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
TOKENS = {
    token: bytes(_BYTES[character] for character in text)
    for text, token in tokenizer().get_vocab().items()
    if token not in IDS.values()
}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL = Tag('<tool_call>{"name": "get", "arguments": ', CITY, "}</tool_call>", "<tool_call>")


class Colour(Enum):
    """Two words of different lengths."""

    RED = "red"
    LONG = "light goldenrod yellow"


class Flat(BaseModel):
    """One of each kind of value."""

    name: str
    count: int
    size: float
    good: bool


class Nested(BaseModel):
    """Objects in arrays in objects."""

    title: str = ""
    flat: Flat
    colour: Colour
    note: str | None
    tags: Annotated[list[str], Field(min_length=1, max_length=3)]
    others: list[Flat]
    counts: dict[str, int]
    share: Annotated[int, Field(ge=100, le=200)]


class Tree(BaseModel):
    """Holds itself."""

    child: Tree | None = None
    children: list[Tree] = []
    value: int


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    """Of the tiny models' tokenizer."""
    return Grammars(lambda: words_of(tokenizer()), WIDTH, [END])


def value(schema: Any) -> Constraint:
    """One JSON value as the whole answer."""
    return Constraint((Tag("", schema),))


def allowed(matcher: Matcher) -> set[int]:
    """The tokens that may follow."""
    scores = np.zeros(WIDTH, dtype=np.float32)
    matcher.mask(scores)
    return set(np.flatnonzero(np.isfinite(scores)).tolist())


def random_answer(matcher: Matcher, max_tokens: int, seed: int, likely: tuple[int, ...] = ()) -> tuple[str, bool]:
    """The text that random scores give, and whether it ended by itself."""
    random = np.random.default_rng(seed)
    tokens: list[int] = []
    for _ in range(max_tokens):
        scores = random.normal(scale=3, size=WIDTH).astype(np.float32)
        scores[list(likely)] += 8
        matcher.mask(scores)
        token = int(scores.argmax())
        assert np.isfinite(scores[token])
        matcher.accept(token)
        if token == END:
            return tokenizer().decode(tokens), True
        tokens.append(token)
    return tokenizer().decode(tokens), False


def accepts(matcher: Matcher, *pieces: str | int) -> bool:
    """Whether this may come: a text, in whatever tokens but special ones, or one token by its number."""
    for piece in pieces:
        rest = b"" if isinstance(piece, int) else piece.encode()
        while rest:
            possible = {token for token, text in TOKENS.items() if rest.startswith(text)} & allowed(matcher)
            if not possible:
                return False
            token = max(possible, key=lambda token: len(TOKENS[token]))
            matcher.accept(token)
            rest = rest[len(TOKENS[token]) :]
        if isinstance(piece, int):
            if piece not in allowed(matcher):
                return False
            matcher.accept(piece)
    return True


@pytest.mark.parametrize(
    ("model", "max_tokens"), [(Flat, 48), (Flat, 100), (Nested, 230), (Tree, 80), (Tree, 200)], ids=str
)
def test_random_scores_give_complete_json_in_time(grammars: Grammars, model: type[BaseModel], max_tokens: int) -> None:
    """However the model begins, the answer is complete and valid before its tokens are used up."""
    schema = model.model_json_schema()
    for seed in range(40):
        text, ended = random_answer(grammars.matcher(value(schema), max_tokens=max_tokens), max_tokens, seed)
        assert ended, text
        model.model_validate_json(text)
        jsonschema.validate(json.loads(text), schema)


def test_a_model_that_only_opens_is_made_to_close(grammars: Grammars) -> None:
    """Scores that always favour one more level of nesting still give complete JSON."""
    opening = tuple(tokenizer().convert_tokens_to_ids(["{", "[", ",", '{"']))
    for seed in range(20):
        text, ended = random_answer(
            grammars.matcher(value(Tree.model_json_schema()), max_tokens=150), 150, seed, opening
        )
        assert ended
        Tree.model_validate_json(text)


def test_there_is_no_haste_while_there_is_room(grammars: Grammars) -> None:
    """With many tokens left, every token that the grammar allows may come."""
    matcher = grammars.matcher(value(CITY), max_tokens=200)
    assert accepts(matcher, '{"city":"')
    assert len(allowed(matcher)) > 200


def test_too_few_tokens_for_any_answer_still_leave_one_to_choose(grammars: Grammars) -> None:
    """The answer is cut off then, and nothing fails."""
    text, ended = random_answer(grammars.matcher(value(CITY), max_tokens=3), 3, 0)
    assert not ended
    assert text.startswith("{")


@pytest.mark.parametrize("text", ['{"city":"東京 😀 Größe"}', '{"city":"a\\"b\\n"}', '{"city":"<tool_call>"}'])
def test_strings_hold_any_text(grammars: Grammars, text: str) -> None:
    """Unicode, escapes, and what is spelled like a special token."""
    matcher = grammars.matcher(value(CITY), max_tokens=200)
    assert accepts(matcher, text)
    assert matcher.is_over
    assert allowed(matcher) == {END}


def test_integer_bounds_are_kept(grammars: Grammars) -> None:
    """No digit may come that leads out of them."""
    schema = {"type": "integer", "minimum": 10, "maximum": 12}
    for text in ("10", "12"):
        assert accepts(grammars.matcher(value(schema), max_tokens=50), text, END)
    for text in ("13", "9", "120"):
        assert not accepts(grammars.matcher(value(schema), max_tokens=50), text, END)


def test_a_constant_that_is_spelled_like_a_special_token_can_be_written(grammars: Grammars) -> None:
    """Llguidance takes such text for the token, and then refuses the token."""
    text, ended = random_answer(grammars.matcher(value({"enum": ["<tool_call>x"]}), max_tokens=60), 60, 0)
    assert (json.loads(text), ended) == ("<tool_call>x", True)


def test_pydantics_formats_and_titles_are_no_obstacle(grammars: Grammars) -> None:
    """A format that only describes is left out; one that can be guaranteed is."""

    class Login(BaseModel):
        """A docstring."""

        password: SecretStr = Field(description="secret", examples=["x"])
        kind: Literal["a", "b"] = "a"

    assert accepts(grammars.matcher(value(Login.model_json_schema()), max_tokens=99), '{"password":"x"}', END)
    day = value({"type": "string", "format": "date"})
    assert accepts(grammars.matcher(day, max_tokens=99), '"2026-11-20"', END)
    assert not accepts(grammars.matcher(day, max_tokens=99), '"today"')


def test_a_property_may_be_called_like_a_keyword(grammars: Grammars) -> None:
    """What is left out of schemas is not left out of their properties."""
    schema = {"type": "object", "properties": {"format": {"type": "integer"}}, "required": ["format"]}
    assert accepts(grammars.matcher(value(schema), max_tokens=50), '{"format":1}', END)


def test_an_object_has_no_properties_that_its_schema_does_not_name(grammars: Grammars) -> None:
    """Unless the schema says that it may."""
    named = grammars.matcher(value(CITY), max_tokens=50)
    assert not accepts(named, '{"city":"x","other":1}')
    opened = grammars.matcher(value({**CITY, "additionalProperties": True}), max_tokens=50)
    assert accepts(opened, '{"city":"x","other":1}', END)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"not": {"type": "string"}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"$ref": "#/$defs/missing"}, "missing"),
        ({"type": "nonsense"}, "nonsense"),
        ({"enum": [object()]}, "JSON"),
    ],
)
def test_what_cannot_be_guaranteed_is_refused(grammars: Grammars, schema: Any, message: str) -> None:
    """No keyword is ignored in silence; the error names it, and nothing of the grammar around it."""
    with pytest.raises(InputError, match=message) as caught:
        grammars.matcher(value(schema), max_tokens=50)
    assert caught.value.hint
    assert "%json" not in caught.value.message


def test_a_tag_is_written_with_its_special_tokens(grammars: Grammars) -> None:
    """A model that learned `<tool_call>` as a token gives that token; then comes exactly one tag."""
    matcher = grammars.matcher(Constraint((CALL,)), max_tokens=100)
    assert allowed(matcher) == {IDS["<tool_call>"]}
    body = ('{"name": "get", "arguments": {"city":"Paris"}}', IDS["</tool_call>"])
    assert accepts(matcher, IDS["<tool_call>"], *body)
    assert allowed(matcher) == {END}


def test_a_tag_of_plain_text_is_spelled_out(grammars: Grammars) -> None:
    """No marker of the tokenizer is needed; one of several forms is chosen by its text."""
    tags = (Tag("CALL add(", {"type": "integer"}, ")"), Tag("CALL addall(", {"type": "array"}, ")"))
    for text in ("CALL add(12)", "CALL addall([1])"):
        assert accepts(grammars.matcher(Constraint(tags), max_tokens=60), text, END)
    assert not accepts(grammars.matcher(Constraint(tags), max_tokens=60), "CALL add([")
    assert not accepts(grammars.matcher(Constraint(tags), max_tokens=60), "hello")


@pytest.mark.parametrize("end", [")", "</tool_call>", "\nEND", ""])
def test_numbers_end_whatever_stands_behind_them(grammars: Grammars, end: str) -> None:
    """Digits could go on for ever."""
    for kind in ("integer", "number"):
        constraint = Constraint((Tag("<tool_call>", {"type": kind}, end),))
        for seed in range(10):
            text, ended = random_answer(grammars.matcher(constraint, max_tokens=30), 30, seed, DIGITS)
            assert ended
            json.loads(text.removeprefix("<tool_call>").removesuffix(end))


def test_an_added_token_that_is_text_may_be_written_either_way() -> None:
    """Mistral's `[TOOL_CALLS]`, where the tokenizer does not call it special."""
    words = Grammars(lambda: words_of(_with_added("[TOOL_CALLS]", special=False)), WIDTH + 8, [END])
    tag = Tag("[TOOL_CALLS]", {"type": "integer"}, "", "[TOOL_CALLS]")
    matcher = words.matcher(Constraint((tag,)), max_tokens=60)
    scores = np.zeros(WIDTH + 8, dtype=np.float32)
    matcher.mask(scores)
    assert np.isfinite(scores[len(tokenizer())])
    for constraint in (Constraint((tag,)), Constraint((tag,), free_text=True)):
        matcher = words.matcher(constraint, max_tokens=60)
        matcher.accept(len(tokenizer()))
        matcher.mask(scores := np.zeros(WIDTH + 8, dtype=np.float32))
        assert not np.isfinite(scores[LETTER])


def _with_added(text: str, *, special: bool) -> Any:
    changed = type(tokenizer())(tokenizer_object=_copied(), eos_token="<|endoftext|>")  # noqa: S106 - a token of the vocabulary
    changed.add_tokens([AddedToken(text, special=special, normalized=False)], special_tokens=special)
    return changed


def _copied() -> Any:
    from tokenizers import Tokenizer  # noqa: PLC0415 - for this copy alone

    return Tokenizer.from_str(tokenizer().backend_tokenizer.to_str())


def test_free_text_may_hold_no_tag_at_all(grammars: Grammars) -> None:
    """A plain answer may end at any time, and hold other special tokens."""
    matcher = grammars.matcher(Constraint((CALL,), free_text=True), max_tokens=200)
    assert END in allowed(matcher)
    assert accepts(matcher, IDS["<think>"], "It is {sunny} in 東京 & 1 < 2.", IDS["</think>"], "Yes", END)


@pytest.mark.parametrize("trigger", [(IDS["<tool_call>"],), ("<tool_call>",)], ids=["token", "spelled"])
def test_a_trigger_in_free_text_forces_the_form(grammars: Grammars, trigger: tuple[str | int, ...]) -> None:
    """Whatever follows it is the tag, to its end; then comes text again, and more tags."""
    other = Tag('<tool_call>{"name": "b", "arguments": ', {}, "}</tool_call>", "<tool_call>")
    constraint = Constraint((CALL, other), free_text=True)
    matcher = grammars.matcher(constraint, max_tokens=400)
    assert accepts(matcher, "Let me see. ", *trigger)
    assert not allowed(matcher) & {END, LETTER}
    assert accepts(matcher, '{"name": "get", "arguments": {"city":"x"}}')
    assert END not in allowed(matcher)
    assert accepts(
        matcher, IDS["</tool_call>"], " and ", *trigger, '{"name": "b", "arguments": 3}', IDS["</tool_call>"]
    )
    assert accepts(matcher, "done", END)


def test_tags_in_random_free_text_are_complete(grammars: Grammars) -> None:
    """Also when the tokens run out: a tag is begun only if it can be completed."""
    constraint = Constraint((CALL,), free_text=True)
    for seed in range(60):
        text, _ = random_answer(grammars.matcher(constraint, max_tokens=120), 120, seed, (IDS["<tool_call>"],))
        calls = re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL)
        assert calls
        assert text.count("<tool_call>") == len(calls), text
        assert all(json.loads(call)["arguments"].keys() == {"city"} for call in calls)


def test_plain_text_is_not_cut_short_for_a_tag(grammars: Grammars) -> None:
    """Text may go on to the last token; only tags may no longer begin."""
    matcher = grammars.matcher(Constraint((CALL,), free_text=True), max_tokens=40)
    for _ in range(39):
        matcher.accept(LETTER)
    assert len(allowed(matcher)) > 200
    assert IDS["<tool_call>"] not in allowed(matcher)


@pytest.mark.parametrize("marker", [(IDS["</think>"],), ("</think>",)], ids=["token", "spelled"])
def test_text_up_to_a_marker_comes_first(grammars: Grammars, marker: tuple[str | int, ...]) -> None:
    """Reasoning is free, cannot end the answer, and holds other markers; behind it stands the form."""
    matcher = grammars.matcher(Constraint((Tag("", CITY),), after="</think>"), max_tokens=300)
    assert END not in allowed(matcher)
    assert accepts(matcher, IDS["<think>"], 'Hmm, {"x', IDS["<tool_call>"], "\n", *marker, "\n\n")
    assert not accepts(matcher, "hello")
    assert accepts(matcher, '{"city":"x"}', END)


@pytest.mark.parametrize("after", ["</think>", "FINAL ANSWER:"])
def test_the_marker_comes_in_time(grammars: Grammars, after: str) -> None:
    """Endless reasoning is ended while there is room for the answer."""
    constraint = Constraint((Tag("", Flat.model_json_schema()),), after=after)
    for seed in range(20):
        text, ended = random_answer(grammars.matcher(constraint, max_tokens=150), 150, seed)
        assert ended, text
        Flat.model_validate_json(text.split(after, 1)[1])


def test_a_form_in_free_text_needs_a_trigger(grammars: Grammars) -> None:
    """Otherwise nothing tells it from text."""
    with pytest.raises(InputError, match="trigger"):
        grammars.matcher(Constraint((Tag("", CITY),), free_text=True), max_tokens=50)
    with pytest.raises(InputError, match="trigger"):
        grammars.matcher(Constraint((Tag("a", CITY, trigger="b"),), free_text=True), max_tokens=50)


def test_scores_that_forbid_everything_still_leave_what_the_form_needs(grammars: Grammars) -> None:
    """Whoever else has forbidden the only token that may come, it comes."""
    scores = np.full(WIDTH, -np.inf, dtype=np.float32)
    grammars.matcher(Constraint((CALL,)), max_tokens=100).mask(scores)
    assert np.flatnonzero(np.isfinite(scores)).tolist() == [IDS["<tool_call>"]]


def test_a_token_that_must_not_follow_is_refused(grammars: Grammars) -> None:
    """A caller who samples past the mask is told."""
    with pytest.raises(EngineError, match="must not follow"):
        grammars.matcher(value(CITY), max_tokens=50).accept(LETTER)


def test_answers_do_not_share_a_state(grammars: Grammars) -> None:
    """One grammar serves many answers at once, from many threads."""
    texts: dict[int, str] = {}

    def answer(seed: int) -> None:
        texts[seed] = random_answer(grammars.matcher(value(Flat.model_json_schema()), max_tokens=60), 60, seed)[0]

    threads = [threading.Thread(target=answer, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = dict(texts)
    for seed in range(6):
        answer(seed)
    assert texts == together
    assert len(texts) == 6


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    """Its tokens cannot be read as bytes."""
    from transformers import ByT5Tokenizer  # noqa: PLC0415 - the one slow tokenizer that needs no files

    with pytest.raises(UnsupportedModelError, match="fast tokenizer") as caught:
        Grammars(lambda: words_of(ByT5Tokenizer()), 400, [1]).matcher(value(CITY), max_tokens=50)
    assert caught.value.hint


def test_a_model_without_an_end_token_is_over_when_its_answer_is() -> None:
    """Nothing may follow, and no token says so; the scores are left alone."""
    matcher = Grammars(lambda: words_of(tokenizer()), WIDTH, []).matcher(value({"const": 1}), max_tokens=9)
    assert accepts(matcher, "1")
    assert matcher.is_over
