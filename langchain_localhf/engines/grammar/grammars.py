"""Answers of a required form: which tokens may come next, and how to end in time.

llguidance knows what the grammar allows. What is added here is the end: an answer has a limit of tokens, and JSON that
is cut off is worth nothing. So a matcher knows a way to complete its answer, and takes it while the tokens last.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import numpy as np

from langchain_localhf.engines.grammar.form import Form, first_line
from langchain_localhf.engines.grammar.vocabulary import COMMA, QUOTE, Vocabulary
from langchain_localhf.errors import EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from llguidance import LLMatcher
    from numpy.typing import NDArray

    from langchain_localhf.engines.generation.request import Constraint
    from langchain_localhf.engines.grammar.vocabulary import Words

_MAX_COMPILED = 64
# No way to complete an answer is followed further than this; what needs more is endless.
_MAX_COMPLETION = 1024
# So many ways are tried before the shortest of them is taken.
_WAYS = 4


class Grammars:
    """The grammars of one model, each compiled once. Safe to use from many threads.

    Args:
        read_words: Gives what the model's tokenizer says; called once, when the first answer has to have a form.
        vocabulary_size: The width of the model's scores, which may be larger than the tokenizer's vocabulary.
        end_ids: The tokens that end an answer.
    """

    def __init__(self, read_words: Callable[[], Words], vocabulary_size: int, end_ids: Collection[int]) -> None:
        self._read_words = read_words
        self._width = vocabulary_size
        self._end_ids = frozenset(end_ids)
        self._vocabulary: Vocabulary | None = None
        self._compiled: dict[str, Form] = {}
        self._lock = threading.Lock()

    def matcher(self, constraint: Constraint, *, max_tokens: int) -> Matcher:
        """The state of a new answer.

        Raises:
            InputError: The schema asks for something that cannot be guaranteed; the message says what.
            UnsupportedModelError: The tokenizer cannot be read.
        """
        try:
            key = json.dumps([(tag.begin, tag.schema, tag.end, tag.trigger) for tag in constraint.tags], default=dict)
        except (TypeError, ValueError) as error:
            msg = f"the schema is not JSON: {error}"
            raise InputError(msg, hint="pass a JSON schema, such as model_json_schema() of a pydantic model") from error
        key = f"{constraint.free_text} {constraint.after!r} {key}"
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = Vocabulary.read(self._read_words(), self._width, self._end_ids)
            if key not in self._compiled:
                if len(self._compiled) >= _MAX_COMPILED:
                    self._compiled.clear()
                self._compiled[key] = Form.compiled(constraint, self._vocabulary)
            return Matcher(self._vocabulary, self._compiled[key], max_tokens)


class Matcher:
    """The state of one answer; made by `Grammars.matcher`, for one thread at a time."""

    def __init__(self, vocabulary: Vocabulary, form: Form, max_tokens: int) -> None:
        self._vocabulary = vocabulary
        self._form = form
        self._state = form.start.deep_copy()
        self._max_tokens = self._left = max_tokens
        self._before_marker = bool(form.after)
        self._tail = b""
        self._script: list[int] = []  # tokens that have to come, since there is no room for others
        self._unchecked = 0  # for so many tokens, whatever comes, there is room
        self._ended = False

    @property
    def is_over(self) -> bool:
        """Whether the answer is complete, and nothing but an end may follow."""
        return self._ended or self._state.is_stopped()

    def allowed(self) -> NDArray[np.bool_]:
        """The tokens that may follow; none where the answer is over, and the model has no token that says so.

        To be asked once for each place. Shape: `(vocabulary,)`.

        Raises:
            EngineError: The grammar is too much for llguidance.
        """
        return self._within_room(self._allowed(self._state))

    def mask(self, scores: NDArray[np.float32]) -> None:
        """Sets the scores of what must not follow to minus infinity, in place, and leaves at least one.

        Args:
            scores: Shape: `(vocabulary,)`.

        Raises:
            EngineError: The grammar is too much for llguidance.
        """
        allowed = self.allowed()
        if not allowed.any():  # over, and the model has no token that says so
            return
        np.copyto(scores, -np.inf, where=~allowed)
        if not np.isfinite(scores).any():  # someone else has forbidden all of them
            scores[allowed] = 0

    def accept(self, token_id: int) -> None:
        """Takes the token that was chosen.

        Raises:
            EngineError: The token must not follow.
        """
        self._left -= 1
        if self.is_over:
            return
        if not self._state.consume_token(token_id):
            msg = f"token {token_id} must not follow here: {first_line(self._state.get_error())}"
            raise EngineError(msg, hint="this is a bug, please report it")
        self._ended = token_id in self._vocabulary.end_ids
        if self._script and self._script.pop(0) != token_id:
            self._script.clear()
        self._unchecked -= 1
        if self._before_marker:
            self._tail = (self._tail + self._vocabulary.tokens.decode_bytes([token_id]))[-4 * len(self._form.after) :]
            if token_id == self._vocabulary.special.get(self._form.after) or self._form.after.encode() in self._tail:
                self._before_marker, self._unchecked, self._script = False, 0, []

    def _allowed(self, state: LLMatcher) -> NDArray[np.bool_]:
        bits = np.frombuffer(state.compute_bitmask(), dtype=np.uint8)
        if state.is_error():
            msg = f"the form of the answer cannot be followed: {first_line(state.get_error())}"
            raise EngineError(msg, hint="use a simpler schema")
        width = self._vocabulary.width
        allowed = np.unpackbits(bits, count=min(width, 8 * len(bits)), bitorder="little").view(np.bool_)
        # llguidance takes text that is spelled like a special token for that token, if nothing else can follow.
        forced = np.count_nonzero(allowed) == 1 and not state.is_accepting()
        if forced and not state.validate_tokens([int(allowed.argmax())]):
            allowed = np.zeros(width, dtype=np.bool_)
            allowed[self._forced(state)[:1]] = True
        return allowed

    def _forced(self, state: LLMatcher) -> list[int]:
        """The tokens that have to follow, as far as they are certain."""
        tokens = state.compute_ff_tokens()
        count = state.validate_tokens(tokens) if tokens else 0
        if tokens and not count:
            text = bytes(state.compute_ff_bytes()).decode(errors="ignore")
            tokens = self._vocabulary.tokens.greedy_tokenize(text)
            count = state.validate_tokens(tokens)
        return tokens[:count]

    def _within_room(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Of the tokens that the grammar allows, those after which there is room to complete the answer."""
        if self._form.free_text and not self._before_marker and self._state.is_accepting():
            self._unchecked = 0
            return self._without_triggers(allowed)
        if not self._script:
            if self._unchecked > 0:
                return allowed
            completion = self._completion(self._state.deep_copy())
            spare, growth = self._left - len(completion), self._form.growth
            if self._before_marker:
                return self._before_the_marker(allowed, spare)
            if spare > growth:
                self._unchecked = max(0, (spare - 2 * growth) // (1 + growth))
                return allowed if spare > 2 * growth else self._closing(allowed)
            ways = (self._completion(self._state.deep_copy(), turn) for turn in range(_WAYS))
            self._script = min(ways, key=len)
        return self._only(self._script[0]) if self._script else allowed

    def _without_triggers(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Text alone, once a tag could no longer be completed; text itself may be cut off anywhere."""
        if self._left > self._form.tag_tokens:
            return allowed
        rest = allowed & ~self._form.completes_trigger
        return rest if rest.any() else allowed

    def _before_the_marker(self, allowed: NDArray[np.bool_], spare: int) -> NDArray[np.bool_]:
        """Ends the text before the marker while there is room for more than the shortest of answers."""
        needed = self._form.completion
        reserve = max(self._form.growth, min(2 * needed, self._max_tokens // 2 - needed))
        if spare > reserve:
            self._unchecked = spare - reserve
            return allowed
        self._script = self._marker(self._state.deep_copy())
        return self._only(self._script[0])

    def _closing(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Of the allowed tokens, those that lead to the end, where they can be told."""
        words = self._vocabulary
        if self._state.is_accepting():
            groups = [words.ends]
        elif allowed[words.letters].all():  # inside of a string
            groups = [words.rank == QUOTE]
        else:  # `,` ends a number
            groups = [words.rank < QUOTE, words.rank == COMMA]
        for group in groups:
            chosen = allowed & group
            if chosen.any():
                return chosen
        return allowed

    def _completion(self, state: LLMatcher, turn: int = 0) -> list[int]:
        """Tokens that complete the answer: a short way, if not always the shortest."""
        steps = self._marker(state) if self._before_marker else []
        limit = len(steps) + min(self._left, _MAX_COMPLETION)
        while not state.is_accepting() and len(steps) <= limit:
            tokens = self._forced(state) or [self._step(state, len(steps) + turn)]
            if not state.consume_tokens(tokens):
                break
            steps += tokens
        if self._vocabulary.end_ids and not self._form.free_text:
            steps.append(min(self._vocabulary.end_ids))
        return steps

    def _marker(self, state: LLMatcher) -> list[int]:
        steps: list[int] = []
        special = self._vocabulary.special.get(self._form.after)
        marker = [special] if special is not None else self._vocabulary.tokens.tokenize_str(self._form.after)
        while state.validate_tokens(marker) < len(marker):  # inside of a character
            steps.append(self._step(state, 0))
            state.consume_token(steps[-1])
            if state.is_error():
                break
        state.consume_tokens(marker)
        return steps + marker

    def _step(self, state: LLMatcher, number: int) -> int:
        words, allowed = self._vocabulary, self._allowed(state)
        if words.letters.size and allowed[words.letters].all():  # inside of a string
            quotes = np.flatnonzero(allowed & (words.rank == QUOTE))
            return int(quotes[0] if quotes.size else words.letters[0])
        rank = np.where(allowed, words.rank, np.iinfo(np.int8).max)
        best = np.flatnonzero(rank == rank.min())
        return int(best[number % best.size])  # another one each time, so that no loop is endless

    def _only(self, token_id: int) -> NDArray[np.bool_]:
        allowed = np.zeros(self._vocabulary.width, dtype=np.bool_)
        allowed[token_id] = True
        return allowed
