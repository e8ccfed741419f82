"""The narrow waist between LangChain's classes and the engines: what an engine can do, in the fewest words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.images import ImagePreparation
    from langchain_localhf.engines.generation.generation import Generation
    from langchain_localhf.engines.generation.reply import ReplyReader
    from langchain_localhf.engines.generation.request import Prompt, Request
    from langchain_localhf.engines.traceable import Traceable

InputKind = Literal["query", "document"]

# Two plain texts of different lengths: enough to run every part of a model, cheap enough for every load.
PROBE_TEXTS = ("the weather is nice", "Quarterly report: tax filings are due")
# The same for pairs: a good answer, none, one in another order, and nothing at all, so that some score is in between.
PROBE_PAIRS = (
    ("how is the weather", "the weather is nice"),
    ("how is the weather", "Quarterly report: tax filings are due"),
    ("tax filings are due", "how is the weather"),
    ("", "the weather is nice"),
)


class Encoder(Protocol):
    """Turns texts into vectors; a dual encoder such as CLIP, images into vectors of the same space, too.

    Safe to call from many threads at once.
    """

    @property
    def dimension(self) -> int:
        """The length of a vector with the model's own settings."""

    @property
    def max_seq_length(self) -> int | None:
        """How many tokens of a text are read; the rest is cut off. None if there is no limit."""

    @property
    def probe_vectors(self) -> NDArray[np.float32]:
        """The vectors of `PROBE_TEXTS` as documents, with the model's own settings. Shape: `(2, dimension)`.

        Behind them there may be those of images that the engine draws for itself.
        """

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

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, with the special ones; the model reads the first `max_seq_length` of them."""

    @property
    def image_preparation(self) -> ImagePreparation | None:
        """How an image is brought into the form that `encode_images` takes; None for a model that reads texts only."""

    def encode_images(self, pixels: NDArray[np.uint8], *, encode_kwargs: Mapping[str, Any]) -> NDArray[np.number[Any]]:
        """Embeds images; only for a model that has an `image_preparation`.

        Args:
            pixels: The images, resized and cropped as `image_preparation` says. Shape: `(images, height, width, 3)`.
            encode_kwargs: As in `encode`; prompts are for texts, and change nothing.

        Returns:
            Shape: `(images, dimension)`, in the order of the images.
        """

    def traceable(self, *, eager_attention: bool = False) -> Traceable:
        """The whole model, ready to be compiled for another engine.

        Args:
            eager_attention: Whether attention is to be written out in plain products, for an engine that reads masks
                differently from torch's own function for it.

        Raises:
            UnsupportedModelError: It reads texts in a way that a graph cannot, or is compiled already.
        """

    def close(self) -> None:
        """Stops the processes that `multi_process` started; they start again when they are needed."""


class Scorer(Protocol):
    """Scores pairs of texts: a cross-encoder. Safe to call from many threads at once."""

    @property
    def labels(self) -> int:
        """How many scores a pair has: 1 for a reranker, one for each class of a classifier."""

    @property
    def max_seq_length(self) -> int | None:
        """How many tokens of a pair are read; the longer text loses the rest. None if there is no limit."""

    @property
    def probe_scores(self) -> NDArray[np.float32]:
        """The scores of `PROBE_PAIRS`, with the model's own settings."""

    @property
    def unused_weights(self) -> tuple[str, ...]:
        """Tensors that the checkpoint does not hold and that were shown to change no score."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of the libraries that run the model."""

    def score(self, pairs: Sequence[tuple[str, str]], *, batch_size: int | None = None) -> NDArray[np.float32]:
        """Scores pairs of texts, as `CrossEncoder.predict` does: after the model's own activation function.

        Args:
            pairs: The pairs, such as a question and a passage each; at least one.
            batch_size: How many pairs run together at most; None for as many as pay.

        Returns:
            In the order of the pairs. Shape: `(len(pairs),)` for a model with one label, else `(len(pairs), labels)`.
        """

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """How many tokens each pair has, with the special ones; the model reads the first `max_seq_length` of them."""

    def traceable(self, *, eager_attention: bool = False) -> Traceable:
        """The whole model, ready to be compiled for another engine.

        Args:
            eager_attention: Whether attention is to be written out in plain products, for an engine that reads masks
                differently from torch's own function for it.

        Raises:
            UnsupportedModelError: It reads pairs in a way that a graph cannot, or is compiled already.
        """


class Generator(Protocol):
    """Continues or answers prompts. Safe to call from many threads at once."""

    @property
    def context_window(self) -> int | None:
        """How many tokens the model can look at. None if there is no limit."""

    @property
    def continues_prompt(self) -> bool:
        """Whether an answer continues its prompt, in the same window, or is a text of its own (encoder-decoder)."""

    @property
    def reads_images(self) -> bool:
        """Whether a prompt may hold images."""

    @property
    def model_type(self) -> str:
        """The architecture, in the checkpoint's own word, such as `qwen2`."""

    @property
    def chat_template(self) -> str | None:
        """The template that writes conversations as prompts; None for a model that is no chat model."""

    @property
    def options(self) -> frozenset[str]:
        """The names of the settings of the engine's own that a request may have, such as `temperature`."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The settings that the checkpoint brings in its `generation_config.json`; also others than `options`."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of the libraries that run the model."""

    def read_prompt(self, text: str, *, images: Sequence[bytes] = (), special_tokens: bool = True) -> Prompt:
        """Tokenizes a prompt.

        Args:
            text: The text; not empty.
            images: PNG, JPEG, ..., one for each place in the text that stands for an image.
            special_tokens: Whether to add those that the tokenizer puts around a text; a chat template has its own.

        Raises:
            InputError: The text gives no token, or the images do not fit to it or cannot be read.
            UnsupportedModelError: There are images, and the model reads none.
        """

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text alone, without special ones."""

    def token_text(self, token_id: int) -> str:
        """The text of one token alone; not whole characters for some."""

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Writes a conversation as the prompt for its next message, with the model's own chat template.

        Args:
            messages: As chat templates take them: `{"role": ..., "content": ...}`.
            tools: The functions that the model may call, in OpenAI's form.
            variables: What this template takes beside them, such as `enable_thinking`.

        Raises:
            UnsupportedModelError: The model has no chat template.
            InputError: The template refuses the conversation; the message says why.
        """

    def reply_reader(self, prompt: str, *, tools: Sequence[Mapping[str, Any]] = ()) -> ReplyReader | None:
        """Reads the reply to a rendered chat as the tokenizer's own description says; None if it has none."""

    def submit(self, requests: Sequence[Request]) -> list[Generation]:
        """Starts answers, as soon as the model is free, several at once where that pays.

        Raises:
            InputError: The options contradict each other, or a constraint cannot be met.

        Returns:
            One for each request, in their order.
        """
