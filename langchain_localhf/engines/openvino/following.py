"""An answer of a required form: the grammar follows what the model writes, and steps in where it goes astray.

openvino-genai is not told of the grammar. It writes freely, and a token that must not follow is never handed on: the
model goes on from the one before it with another request, whose first token cannot be one that is forbidden. What it
draws there has the probabilities that it would have, had the forbidden tokens been left out at once. A model that knows
its form hardly ever has to be told, and where only one token can follow, it is not even asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from langchain_localhf.engines.generation.generation import Token
from langchain_localhf.engines.openvino.sampling import generation_config
from langchain_localhf.engines.openvino.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray
    from openvino_genai import GenerationConfig

    from langchain_localhf.engines.generation.generation import Generation
    from langchain_localhf.engines.grammar.grammars import Matcher


class Following(Writing):
    """Takes the tokens of an answer that has to have a form.

    Args:
        generation: The answer.
        end_ids: The tokens that end it.
        matcher: Where it is in its grammar.
    """

    def __init__(self, generation: Generation, end_ids: Collection[int], matcher: Matcher) -> None:
        super().__init__(generation, end_ids)
        self._matcher = matcher
        self._written: list[int] = []
        self._known: NDArray[np.bool_] | None = None

    def wanted(self) -> tuple[Sequence[int], GenerationConfig]:
        """What to ask of the model: prompt and answer as far as it goes, and how to continue them."""
        self.is_interrupted = False
        request = self.generation.request
        while request.logprobs is None and not self.generation.is_over and np.count_nonzero(self._allowed()) == 1:
            self._write(Token(int(self._allowed().argmax())))
        config = generation_config(
            request,
            self._end_ids,
            max_tokens=max(self.generation.tokens_left, 1),
            written=len(self._written),
            forbidden=np.flatnonzero(~self._allowed()).tolist(),
        )
        return [*request.prompt.token_ids, *self._written], config

    def _accept(self, token: Token) -> None:
        if self.is_interrupted or self.generation.is_over:
            return
        if self._allowed()[token.id]:
            self._write(token)
        else:
            self.is_interrupted = True

    def _write(self, token: Token) -> None:
        self._matcher.accept(token.id)
        self._known = None
        self._written.append(token.id)
        self.generation.accept(token)
        if self._matcher.is_over:  # also of a model with no token to say so
            self.generation.finish()

    def _allowed(self) -> NDArray[np.bool_]:
        """The tokens that may follow here."""
        if self._known is None:
            self._known = self._matcher.allowed()
        return self._known
