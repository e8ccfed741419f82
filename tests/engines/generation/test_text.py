"""Text out of tokens, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.language_models import tokenizer
from tokenizers import Tokenizer, decoders, models

from langchain_localhf.engines.generation.text import TextStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BYTE_LEVEL = tokenizer().backend_tokenizer

_CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]), st.sampled_from("ab \n😀👩\u200d👧e\u0301東京Жд\ufffd<|im_end|>")
)
_TEXTS = st.text(_CHARACTERS, max_size=60)
_IDS = st.lists(st.integers(4, len(tokenizer()) - 5), max_size=80)


def _byte_fallback() -> Tokenizer:
    """As of Llama 2 and Mistral: words begin with a mark, and unknown characters are bytes."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefgh."]
    backend = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate([*pieces, "▁a", "ab"])},
            merges=[("▁", "a"), ("a", "b")],
            byte_fallback=True,
            unk_token="<unk>",  # noqa: S106 - of the vocabulary
        )
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


_BYTE_FALLBACK = _byte_fallback()


def _ids_with_bytes(text: str) -> list[int]:
    return list(_BYTE_FALLBACK.encode("▁" + text.replace(" ", "▁")).ids)


def _pieces(decode: Callable[[Sequence[int]], str], ids: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    """What a stream gives for each token until it stops, and at last for its end."""
    stream = TextStream(decode, stop)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return [*pieces, stream.flush()]


def _cut(ids: Sequence[int], stop: Sequence[str]) -> str:
    """The text of as few tokens as hold a stop string, before the first one in it."""
    for count in range(len(ids) + 1):
        text = _BYTE_LEVEL.decode(list(ids[:count]))
        if places := [text.index(one) for one in stop if one in text]:
            return text[: min(places)]
    return _BYTE_LEVEL.decode(list(ids))


@st.composite
def _texts_with_stops(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Texts, and stop strings of which many come in them, begin alike, or repeat themselves."""
    text = draw(_TEXTS | st.text("ab", max_size=40))
    inside = st.tuples(st.integers(0, max(len(text) - 1, 0)), st.integers(1, 6)).map(lambda p: text[p[0] : sum(p)])
    stops = draw(st.lists(inside | st.text(_CHARACTERS, max_size=4) | st.text("ab", max_size=5), max_size=4))
    # A decoder writes U+FFFD for half a character too, so only a finished text can tell whether it is one.
    return text, [stop for stop in stops if stop and "\ufffd" not in stop]


@given(_texts_with_stops())
def test_the_text_ends_before_the_first_stop_string(case: tuple[str, list[str]]) -> None:
    """As if the whole text were looked through after every token, whatever the borders of tokens are."""
    text, stop = case
    ids = _BYTE_LEVEL.encode(text, add_special_tokens=False).ids
    pieces = _pieces(_BYTE_LEVEL.decode, ids, stop)
    assert "".join(pieces) == _cut(ids, stop)
    assert not any(one in piece for one in stop for piece in pieces)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        pytest.param("xaaay", ["aa"], "x", id="a repeated character"),
        pytest.param("xabay", ["abc", "ab"], "x", id="the shorter of two that begin alike"),
        pytest.param("xababac", ["abac"], "xab", id="a start that begins anew inside itself"),
        pytest.param("xab", ["abc"], "xab", id="only the start of one"),
        pytest.param("stop", ["stop"], "", id="nothing else"),
        pytest.param("a\ufffdb", ["\ufffd"], "a", id="the replacement character"),
        pytest.param("東京😀.", ["😀"], "東京", id="a character of several tokens"),
    ],
)
def test_a_stop_string(text: str, stop: list[str], expected: str) -> None:
    """The text ends before it."""
    ids = [number for character in text for number in _BYTE_LEVEL.encode(character).ids]
    assert "".join(_pieces(_BYTE_LEVEL.decode, ids, stop)) == expected


@given(st.text(st.characters(max_codepoint=127), max_size=300))
def test_without_stop_strings_every_token_gives_its_text_at_once(text: str) -> None:
    """Nothing is held back but parts of characters."""
    ids = _BYTE_LEVEL.encode(text, add_special_tokens=False).ids
    assert _pieces(_BYTE_LEVEL.decode, ids) == [*(_BYTE_LEVEL.decode([number]) for number in ids), ""]


@given(st.text("abc", max_size=60), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3))
def test_only_what_may_begin_a_stop_string_is_held_back(text: str, stop: list[str]) -> None:
    """After each token, everything is given but the longest end that one of them begins with."""
    stream, given_text, seen = TextStream(_BYTE_LEVEL.decode, stop), "", ""
    for number in _BYTE_LEVEL.encode(text).ids:
        given_text += stream.push(number)
        seen += _BYTE_LEVEL.decode([number])
        if stream.stopped:
            return
        held = seen[len(given_text) :]
        assert seen == given_text + held
        starts = [end for place in range(len(seen)) if any(one.startswith(end := seen[place:]) for one in stop)]
        assert held == max(starts, key=len, default="")


@given(_IDS)
def test_tokens_that_are_no_valid_text_lose_nothing(ids: list[int]) -> None:
    """A model may write any bytes; the stream gives what decoding all of them at once does."""
    assert "".join(_pieces(_BYTE_LEVEL.decode, ids)) == _BYTE_LEVEL.decode(ids)


@given(st.integers(0x80, 0xFF), st.sampled_from([_BYTE_LEVEL, _BYTE_FALLBACK]))
def test_bytes_that_are_no_valid_text_are_not_withheld_for_ever(byte: int, backend: Tokenizer) -> None:
    """A model that writes nothing else is seen to do so, at most three characters late."""
    table = tokenizer().convert_tokens_to_ids
    first = _BYTE_FALLBACK.token_to_id(f"<0x{byte:02X}>")
    number = first if backend is _BYTE_FALLBACK else table(_byte_character(byte))
    stream = TextStream(backend.decode)
    seen = "".join(stream.push(number) for _ in range(100))
    assert len(seen) >= 97
    assert seen + stream.flush() == backend.decode([number] * 100)


def _byte_character(byte: int) -> str:
    """The character that stands for a byte from 0x80 in the vocabulary of a byte-level tokenizer."""
    apart = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return chr(byte) if byte in apart else chr(256 + sum(other not in apart for other in range(byte)))


@given(_TEXTS | st.text("ab.東京😀é ", max_size=60), st.text("ab東 ", min_size=1, max_size=3))
def test_a_tokenizer_that_falls_back_to_bytes(text: str, stop: str) -> None:
    """One missing byte hides the whole characters before it in its decoder, and still nothing wrong is given."""
    ids = _ids_with_bytes(text)
    whole = _BYTE_FALLBACK.decode(ids)
    assert "".join(_pieces(_BYTE_FALLBACK.decode, ids)) == whole
    assert "".join(_pieces(_BYTE_FALLBACK.decode, ids, [stop])) == whole.split(stop, maxsplit=1)[0]


def test_a_character_of_bytes_comes_with_its_last_one() -> None:
    """Not later, though its decoder sees one run of bytes."""
    ids = [_BYTE_FALLBACK.token_to_id(f"<0x{byte:02X}>") for byte in "東京".encode()]
    assert _pieces(_BYTE_FALLBACK.decode, ids) == ["", "", "東", "", "", "京", ""]


@given(st.lists(st.integers(0, 9), max_size=120))
def test_a_tokenizer_with_pieces_of_words(ids: list[int]) -> None:
    """The spaces are where decoding everything at once puts them."""
    pieces = ["[UNK]", "the", "ship", "##s", "##ing", ",", ".", "is", "don", "##'t"]
    backend = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}))
    backend.decoder = decoders.WordPiece()
    assert "".join(_pieces(backend.decode, ids)) == backend.decode(ids)


@pytest.mark.parametrize("backend", [_BYTE_LEVEL, _BYTE_FALLBACK], ids=["byte level", "byte fallback"])
def test_a_long_text_keeps_its_spaces_and_costs_no_more_for_each_token(backend: Tokenizer) -> None:
    """Only the latest tokens are decoded, and the first of them is not taken for the start of a text."""
    text = "a ab 東京  b 😀. a  " * 40
    ids = _ids_with_bytes(text) if backend is _BYTE_FALLBACK else backend.encode(text).ids
    longest = 0

    def decode(some: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(some))
        return str(backend.decode(list(some)))

    assert len(ids) > 300
    assert "".join(_pieces(decode, ids)) == backend.decode(ids) == text
    assert longest < 30


@pytest.mark.parametrize("place", range(10, 40))
def test_tokens_without_text_do_not_eat_the_space_behind_them(place: int) -> None:
    """A special token, left out of the text, may be the last one before older ones are forgotten."""
    words, hidden = [_BYTE_FALLBACK.token_to_id("▁a")] * 40, 0
    ids = [*words[:place], hidden, hidden, *words[place:]]
    found = _pieces(lambda some: str(_BYTE_FALLBACK.decode([number for number in some if number != hidden])), ids)
    assert "".join(found) == " ".join("a" * 40)


def test_nothing_at_all() -> None:
    """The text of no token is empty, also for transformers' own decoding."""
    assert TextStream(lambda ids: str(tokenizer().decode(list(ids))), ["x"]).flush() == ""
