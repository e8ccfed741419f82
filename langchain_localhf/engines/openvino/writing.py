"""One answer, as openvino-genai writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_localhf.engines.generation.generation import Token
from langchain_localhf.engines.openvino.sampling import beams, generation_config

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from openvino_genai import GenerationConfig, GenerationHandle

    from langchain_localhf.engines.generation.generation import Generation


class Writing:
    """Takes the tokens of one answer from the model and hands them to whoever reads it.

    Args:
        generation: The answer.
        end_ids: The tokens that end it.
    """

    is_interrupted = False  # whether it is to go on with another request than the one that runs

    def __init__(self, generation: Generation, end_ids: Collection[int]) -> None:
        self.generation = generation
        self._end_ids = end_ids

    def wanted(self) -> tuple[Sequence[int], GenerationConfig]:
        """What to ask of the model: tokens, and how to continue them."""
        request = self.generation.request
        config = generation_config(request, self._end_ids, max_tokens=self.generation.tokens_left)
        return request.prompt.token_ids, config

    def take(self, handle: GenerationHandle) -> list[int]:
        """Takes what the model wrote since the last time, and gives its tokens."""
        request = self.generation.request
        outputs = handle.read_all() if beams(request) > 1 else list(handle.read().values())
        written = outputs[min(request.sample, len(outputs) - 1)] if beams(request) > 1 else outputs[0]
        for token_id, logprob in zip(written.generated_ids, written.generated_log_probs, strict=True):
            self._accept(Token(token_id, None if request.logprobs is None else logprob))
        return list(written.generated_ids)

    def _accept(self, token: Token) -> None:
        self.generation.accept(token)
