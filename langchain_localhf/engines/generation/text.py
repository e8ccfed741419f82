"""Text out of tokens, as they come: only what no later token can change, and only up to a stop string."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# What decoders write for bytes that are no character, or not yet one.
_REPLACEMENT = "\ufffd"
# A character has up to four bytes, and so up to three, in as many tokens, that wait for the last one.
_MAX_INCOMPLETE = 3
# Decoding starts anew so often: some context is needed, and a long one is slow.
_WINDOW_TOKENS = 16


class TextStream:
    """Decodes one token after the other.

    The pieces that `push` and `flush` give are, one behind the other, the text of all tokens, cut before the first
    stop string. A token may give no text yet: it may end inside a character, or like the start of a stop string.

    Args:
        decode: Turns token ids into text.
        stop: Texts that end the stream; none is empty.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._decode = decode
        self._stop = tuple(stop)
        self._held = ""
        # Of the tokens in the window, so many characters were taken; the first `_settled` tokens end in a whole one.
        self._window: list[int] = []
        self._taken = 0
        self._settled = 0

    def push(self, token_id: int) -> str:
        """Takes a token, and gives the text that is now certain; often none."""
        self._window.append(token_id)
        text = self._decode(self._window)
        certain = self._without_incomplete(text)
        new = certain[self._taken :]
        self._taken = max(self._taken, len(certain))
        if certain == text:
            self._slide()
        return self._up_to_stop(new)

    def flush(self) -> str:
        """Gives the rest, when no token comes any more."""
        rest = self._up_to_stop(self._decode(self._window)[self._taken :])
        rest, self._held = rest + self._held, ""
        self._window, self._taken, self._settled = [], 0, 0
        return rest

    def _without_incomplete(self, text: str) -> str:
        """Cuts off what later tokens may turn into another text.

        Where tokens are bytes, one that is missing may hide whole characters before it. After more tokens than a
        character can wait for, the text is not valid anyway, and only its end may still change.
        """
        certain = text.rstrip(_REPLACEMENT)
        if len(self._window) - self._settled > _MAX_INCOMPLETE:
            certain = text[: max(len(certain), len(text) - _MAX_INCOMPLETE)]
        return certain

    def _slide(self) -> None:
        """Forgets tokens that the text of later ones does not depend on, once in a while."""
        # Many decoders treat the very first text in a way of their own, so what is kept has to have some text.
        if len(self._window) > _WINDOW_TOKENS and (kept := self._decode(self._window[self._settled :])):
            del self._window[: self._settled]
            self._taken = len(kept)
        self._settled = len(self._window)

    def _up_to_stop(self, new: str) -> str:
        if self.stopped or not new:
            return ""
        text = self._held + new
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._held = True, ""
            return text[: min(places)]
        certain = len(text) - self._possible_start(text)
        self._held = text[certain:]
        return text[:certain]

    def _possible_start(self, text: str) -> int:
        """How many characters at the end of `text` could be the start of a stop string."""
        longest = max(map(len, self._stop), default=0) - 1
        for length in range(min(longest, len(text)), 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stop):
                return length
        return 0
