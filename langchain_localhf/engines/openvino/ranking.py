"""An answer that says what else was probable at each of its places.

openvino-genai tells the probability of the token that it chose, and of no other. So it is asked again, place by place:
for the best token, then for the best but that one, and so on. Each question costs one step of the model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_localhf.engines.openvino.sampling import generation_config
from langchain_localhf.engines.openvino.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from openvino_genai import GenerationConfig, GenerationHandle

    from langchain_localhf.engines.generation.generation import Generation, Token


class Ranking(Writing):
    """Lets an answer be written first, and hands on each of its tokens when the alternatives to it are known.

    Args:
        generation: The answer, as its reader gets it.
        end_ids: The tokens that end it.
        draft: Writes the same answer, without alternatives.
    """

    def __init__(self, generation: Generation, end_ids: Collection[int], draft: Writing) -> None:
        super().__init__(generation, end_ids)
        self._draft = draft
        self._tokens: list[Token] = []
        self._alternatives: list[tuple[int, float]] = []

    def wanted(self) -> tuple[Sequence[int], GenerationConfig]:
        """What to ask of the model: the rest of the draft, or the next alternative."""
        self.is_interrupted = False
        if self._is_drafting():
            return self._draft.wanted()
        request = self.generation.request
        config = generation_config(
            replace(request, options={}),
            self._end_ids,
            max_tokens=1,
            forbidden=[token_id for token_id, _ in self._alternatives],
        )
        written = [token.id for token in self._tokens[: self.generation.token_count]]
        return [*request.prompt.token_ids, *written], config

    def take(self, handle: GenerationHandle) -> list[int]:
        """Takes what the model wrote since the last time, and gives its tokens."""
        if self._is_drafting():
            tokens = self._draft.take(handle)
            if not self._is_drafting():
                self._tokens = list(self._draft.generation.finished.tokens)
            self.is_interrupted = self._draft.is_interrupted or not self._is_drafting()
            return tokens
        (written,) = handle.read().values()
        self._alternatives.append((written.generated_ids[0], written.generated_log_probs[0]))
        if len(self._alternatives) == self.generation.request.logprobs:
            self._hand_on()
        self.is_interrupted = True
        return list(written.generated_ids)

    def _is_drafting(self) -> bool:
        return not self._draft.generation.is_over

    def _hand_on(self) -> None:
        token = self._tokens[self.generation.token_count]
        self.generation.accept(replace(token, alternatives=tuple(self._alternatives)))
        self._alternatives.clear()
        if self.generation.token_count == len(self._tokens):
            self.generation.finish()
