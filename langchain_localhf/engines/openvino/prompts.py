"""Texts and conversations as a language model reads them, and tokens as text again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from langchain_localhf.engines.generation.request import Prompt, check_text
from langchain_localhf.engines.openvino.chat_template import ChatTemplate
from langchain_localhf.engines.openvino.tokens import read_tokens
from langchain_localhf.errors import CheckpointError, InputError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from langchain_localhf.engines.grammar.vocabulary import Words
    from langchain_localhf.engines.openvino.model_files import ModelFiles


class PromptReader:
    """The way into a language model and out of it.

    Args:
        files: The model's files.
        name: The model's name, for messages.

    Raises:
        IncompleteModelError: There is no tokenizer.
        CheckpointError: The tokenizer or the chat template cannot be read.
    """

    def __init__(self, files: ModelFiles, *, name: str) -> None:
        self._name = name
        self._model_type = files.model_type
        self._known_tokens = files.vocabulary_size
        self.tokens = read_tokens(files)
        begin = (self._id_of("bos_token"), files.first_id)
        self._first_token = next((token_id for token_id in begin if token_id is not None), None)
        own_end = self._id_of("eos_token")
        self.end_ids = files.end_ids if files.end_ids is not None else () if own_end is None else (own_end,)
        try:
            self._template = ChatTemplate(files.chat_template, self.tokens.named) if files.chat_template else None
        except TemplateError as error:
            msg = f"the model's chat template cannot be read: {error}"
            raise CheckpointError(msg, hint="export or copy the model again") from error

    @property
    def chat_template(self) -> str | None:
        """The template that writes conversations as prompts."""
        return self._template.source if self._template else None

    def read(self, text: str, *, images: Sequence[bytes], special_tokens: bool) -> Prompt:
        """Tokenizes a prompt; see `Generator.read_prompt`."""
        check_text(text)
        if images:
            msg = f"a {self._model_type} model reads no images on the openvino engine"
            hint = 'use a vision-language model, with task="image-text-to-text" and backend="torch"'
            raise UnsupportedModelError(msg, hint=hint)
        tokens = self.tokens.encode(text, special_tokens=special_tokens)
        if not tokens and self._first_token is None:
            raise InputError("the prompt is empty, and this model has no token to begin a text with", hint="write one")
        outside = [token_id for token_id in tokens if self._known_tokens is not None and token_id >= self._known_tokens]
        if outside:
            msg = f"the prompt holds {self.decode(outside)!r}, for which this model has no weights"
            raise InputError(msg, hint="leave it out; it is a mark for models of another kind")
        return Prompt(tuple(tokens) if tokens or self._first_token is None else (self._first_token,))

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text alone, without special ones."""
        check_text(text)
        return self.tokens.encode(text, special_tokens=False)

    def words(self) -> Words:
        """What the tokenizer says of itself.

        Raises:
            UnsupportedModelError: It is not described by a `tokenizer.json`.
        """
        if (words := self.tokens.words) is None:
            msg = f"the form of an answer needs a tokenizer.json, and {self._name} has none"
            raise UnsupportedModelError(msg, hint="leave the required form of the answer out")
        return words

    @property
    def width(self) -> int:
        """How many tokens the model has weights for, as far as anything says."""
        return self._known_tokens or self.tokens.size

    def hidden_ids(self, markers: Sequence[str]) -> Collection[int]:
        """The special tokens that do not show in a text, which are all that no marker holds."""
        return {i for token, i in self.tokens.special.items() if not any(token in marker for marker in markers)}

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones and all."""
        return self.tokens.decode(token_ids)

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> str:
        """Writes a conversation as a prompt; see `Generator.render_chat`."""
        settings = dict(variables)
        own = settings.pop("chat_template", None)
        if own is None and self._template is None:
            msg = f"{self._name} has no chat template, so it was not made to chat"
            raise UnsupportedModelError(
                msg, hint="use a model whose name ends in Instruct or Chat, or HuggingFacePipeline for plain text"
            )
        try:
            template = self._template if own is None else ChatTemplate(str(own), self.tokens.named)
            return template.render(messages, tools=tools, variables=settings) if template else ""
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            msg = f"the model's chat template refuses this conversation: {error}"
            raise InputError(msg, hint="change the roles or the order of the messages as it says") from error

    def _id_of(self, name: str) -> int | None:
        token = self.tokens.named.get(name)
        return None if token is None else self.tokens.token_id(token)
