"""The narrow waist between LangChain's classes and the engines: what an engine can do, in the fewest words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

InputKind = Literal["query", "document"]

# Two plain texts of different lengths: enough to run every part of a model, cheap enough for every load.
PROBE_TEXTS = ("the weather is nice", "Quarterly report: tax filings are due")


class Encoder(Protocol):
    """Turns texts into vectors. Safe to call from many threads at once."""

    @property
    def dimension(self) -> int:
        """The length of a vector with the model's own settings."""

    @property
    def max_seq_length(self) -> int | None:
        """How many tokens of a text are read; the rest is cut off. None if there is no limit."""

    @property
    def probe_vectors(self) -> NDArray[np.float32]:
        """The vectors of `PROBE_TEXTS` as documents, with the model's own settings. Shape: `(2, dimension)`."""

    @property
    def unused_weights(self) -> tuple[str, ...]:
        """Tensors that the checkpoint does not hold and that were shown to change no vector."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of the libraries that run the model."""

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: InputKind,
        encode_kwargs: Mapping[str, Any],
        show_progress: bool = False,
        multi_process: bool = False,
    ) -> NDArray[np.number[Any]]:
        """Embeds texts.

        Args:
            texts: The texts, as they are; at least one.
            kind: Whether they are queries or documents, for models that treat them differently.
            encode_kwargs: What the engine's own encode takes; passed on untouched.
            show_progress: Whether to show one progress bar.
            multi_process: Whether to spread the work over one pool of processes, which is kept until `close`.

        Returns:
            Shape: `(len(texts), dimension)`, in the order of the texts.
        """

    def close(self) -> None:
        """Stops the processes that `multi_process` started; they start again when they are needed."""
