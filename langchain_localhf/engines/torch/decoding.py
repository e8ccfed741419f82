"""What happens between two steps of transformers' `generate`, row by row: constraints, sampling, stopping.

`generate` decodes; these are its logits processor and its stopping criterion. Each row has a state of its own, so
what is in the other rows of a batch changes nothing in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from langchain_localhf.engines.generation.generation import Token
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from torch import Tensor

    from langchain_localhf.engines.generation.generation import Generation
    from langchain_localhf.engines.grammar.grammars import Matcher

# The settings that shape the distribution to sample from, in the order in which transformers applies them, with the
# value that means nothing.
_WARPERS: dict[str, tuple[Any, float | None]] = {
    "temperature": (TemperatureLogitsWarper, 1.0),
    "top_h": (TopHLogitsWarper, None),
    "top_k": (TopKLogitsWarper, 0),
    "top_p": (TopPLogitsWarper, 1.0),
    "min_p": (MinPLogitsWarper, None),
    "typical_p": (TypicalLogitsWarper, 1.0),
    "epsilon_cutoff": (EpsilonLogitsWarper, 0.0),
    "eta_cutoff": (EtaLogitsWarper, 0.0),
}
WARPER_NAMES = frozenset(_WARPERS)
_INTEGERS = {"top_k"}
_DEFAULTS = {"top_k": 50}  # of transformers, wherever it samples


def warpers(options: Mapping[str, Any]) -> LogitsProcessorList:
    """What shapes the distribution to sample from.

    Raises:
        InputError: A value is out of its range; the message says what it should be.
    """
    chosen = LogitsProcessorList()
    for name, (warper, neutral) in _WARPERS.items():
        value = options.get(name, _DEFAULTS.get(name))
        if value is None or value == neutral:
            continue
        try:
            chosen.append(warper(int(value) if name in _INTEGERS else float(value)))
        except (TypeError, ValueError) as error:
            msg = f"{name}={value!r} cannot be used: {error}"
            raise InputError(msg, hint=f"change {name}, or leave it out") from error
    return chosen


@dataclass
class Row:
    """One row of a batch.

    Attributes:
        generation: The answer that it makes.
        matcher: Where it is in the grammar that it has to follow, if there is one.
        random: What it samples with; None to take the most probable token.
    """

    generation: Generation
    matcher: Matcher | None = None
    random: np.random.Generator | None = None


class Choosing(LogitsProcessor):
    """Leaves each row only the tokens that its grammar allows, and, where it samples, only the one it has drawn.

    Args:
        rows: The rows of the batch.
        shaping: What shapes the distribution to sample from.
    """

    def __init__(self, rows: Sequence[Row], shaping: LogitsProcessorList) -> None:
        self._rows = rows
        self._shaping = shaping
        self._wanted = max((_alternatives(row) for row in rows), default=-1)
        self.logprobs: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Shape of `scores`: `(rows, vocabulary)`."""
        if self._wanted >= 0:
            self.logprobs = torch.log_softmax(scores, dim=-1)
        for index, row in enumerate(self._rows):
            if row.matcher is not None and not row.generation.is_over:
                allowed = scores[index].cpu().numpy()  # on a CPU the same memory, else a copy
                row.matcher.mask(allowed)
                scores[index] = torch.from_numpy(allowed)
        if any(row.random is not None for row in self._rows):
            return self._drawn(self._shaping(input_ids, scores))  # type: ignore[arg-type]
        return scores

    def _drawn(self, scores: Tensor) -> Tensor:
        """Scores that leave one token in each row: the one at a random place of its cumulated probabilities."""
        places = [row.random.random() if row.random is not None else 0.0 for row in self._rows]
        # On a CPU, in double precision: the sum over a large vocabulary must not depend on how it is cut up.
        cumulated = torch.softmax(scores, dim=-1).double().cpu().cumsum(dim=-1)
        sought = torch.tensor(places, dtype=torch.float64)[:, None] * cumulated[:, -1:]
        drawn = torch.searchsorted(cumulated, sought, right=True).clamp(max=scores.shape[-1] - 1).to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)


class Ending(StoppingCriteria):
    """Hands each row's new token to its generation, and ends the rows that have nothing more to say.

    Args:
        rows: The rows of the batch.
        choosing: What knows the probabilities of the tokens.
        all_together: Whether the batch goes on until all of its rows are over. Otherwise it stops when half of them
            are, so that it can go on without those, which would cost as much as the others.
    """

    def __init__(self, rows: Sequence[Row], choosing: Choosing, *, all_together: bool = True) -> None:
        self._rows = rows
        self._choosing = choosing
        self._least = 1 if all_together else len(rows) // 2 + 1

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401, ARG002 - as transformers calls it
        """Gives, for each row, whether it is over. Shape: `(rows,)`."""
        for index, (row, token_id) in enumerate(zip(self._rows, input_ids[:, -1].tolist(), strict=True)):
            if row.generation.is_over:
                continue
            try:
                if row.matcher is not None:
                    row.matcher.accept(token_id)
                row.generation.accept(self._token(index, row, token_id))
                if row.matcher is not None and row.matcher.is_over:  # also of a model with no token to say so
                    row.generation.finish()
            except Exception as error:  # noqa: BLE001 - the other rows go on, and this one's reader gets it
                row.generation.fail(error)
        over = torch.tensor([row.generation.is_over for row in self._rows], dtype=torch.bool)
        if int((~over).sum()) < self._least:
            over.fill_(True)  # noqa: FBT003 - the value of each row
        return over.to(input_ids.device)

    def _token(self, index: int, row: Row, token_id: int) -> Token:
        count, logprobs = _alternatives(row), self._choosing.logprobs
        if count < 0 or logprobs is None:
            return Token(token_id)
        best = torch.topk(logprobs[index], count)
        alternatives = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return Token(token_id, float(logprobs[index, token_id]), alternatives)


class Abandoning(StoppingCriteria):
    """Ends a whole batch once nobody wants any of it.

    Args:
        generations: The answers that it makes.
    """

    def __init__(self, generations: Sequence[Generation]) -> None:
        self._generations = generations

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401, ARG002 - as transformers calls it
        """Gives, for each row, whether it is over. Shape: `(rows,)`."""
        over = all(generation.is_over for generation in self._generations)
        return torch.full((input_ids.shape[0],), over, dtype=torch.bool, device=input_ids.device)


def _alternatives(row: Row) -> int:
    wanted = row.generation.request.logprobs
    return -1 if wanted is None else wanted
