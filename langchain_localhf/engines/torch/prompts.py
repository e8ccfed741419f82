"""Texts, conversations and images as a language model reads them, and tokens as text again."""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import TemplateError

from langchain_localhf.engines.generation.request import Prompt, check_text
from langchain_localhf.engines.grammar.vocabulary import Words
from langchain_localhf.errors import InputError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from langchain_localhf.engines.torch.language_model import LanguageModel


class PromptReader:
    """The way into a language model and out of it.

    Args:
        language_model: The model with its tokenizer, and the processor of one that reads images.
    """

    def __init__(self, language_model: LanguageModel) -> None:
        self._tokenizer = language_model.tokenizer
        self._processor = language_model.processor
        self._prefix = language_model.prefix
        self._model = language_model.model
        begin = (self._tokenizer.bos_token_id, self._model.generation_config.bos_token_id)
        self._first_token = next((token_id for token_id in begin if token_id is not None), None)
        self._known_tokens = _table_rows(self._model)
        self._pads_left = not self._model.config.is_encoder_decoder
        self.reads_images = self._processor is not None
        template = getattr(self._processor, "chat_template", None) or self._tokenizer.chat_template
        self.chat_template: str | None = template.get("default") if isinstance(template, dict) else template
        self.special_tokens = {
            str(token): token_id for token_id, token in self._tokenizer.added_tokens_decoder.items() if token.special
        }
        # Tokenizers keep settings in themselves, and old ones may not be used from two threads.
        self._lock = threading.Lock()

    def read(self, text: str, *, images: Sequence[bytes], special_tokens: bool) -> Prompt:
        """Tokenizes a prompt; see `Generator.read_prompt`."""
        check_text(text)
        if images:
            return self._read_with_images(text, images, special_tokens=special_tokens)
        with self._lock:
            tokens = self._tokenizer(self._prefix + text, add_special_tokens=special_tokens, verbose=False)["input_ids"]
        if not tokens and self._first_token is None:
            raise InputError("the prompt is empty, and this model has no token to begin a text with", hint="write one")
        if max(tokens, default=0) >= self._known_tokens:
            outside = self._tokenizer.decode([token_id for token_id in tokens if token_id >= self._known_tokens])
            msg = f"the prompt holds {outside!r}, for which this model has no weights"
            raise InputError(msg, hint="leave it out; it is a mark for models of another kind")
        return Prompt(tuple(tokens or [self._first_token]))

    def _read_with_images(self, text: str, images: Sequence[bytes], *, special_tokens: bool) -> Prompt:
        if self._processor is None:
            msg = f"a {self._model.config.model_type} model reads no images"
            raise UnsupportedModelError(msg, hint='use a vision-language model, with task="image-text-to-text"')
        place = getattr(self._processor, "image_token", None)
        places = text.count(place) if place else 0
        if places and places != len(images):
            msg = f"the images do not fit to the prompt: it has places for {places}, and there are {len(images)}"
            raise InputError(msg, hint="check that the chat template has a place for each image")
        pictures = [_picture(image, index) for index, image in enumerate(images)]
        try:
            with self._lock:
                inputs = self._processor(
                    text=[text], images=pictures, add_special_tokens=special_tokens, return_tensors="pt"
                )
        except (ValueError, IndexError) as error:
            msg = f"the images do not fit to the prompt: {error}"
            raise InputError(msg, hint="check that the chat template has a place for each image") from error
        return Prompt(tuple(inputs["input_ids"][0].tolist()), media=dict(inputs))

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text alone, without special ones."""
        check_text(text)
        with self._lock:
            return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def words(self) -> Words:
        """What the tokenizer says of itself; see `words_of`."""
        return words_of(self._tokenizer)

    def hidden_ids(self, markers: Sequence[str]) -> Collection[int]:
        """The special tokens that do not show in a text, which are all that no marker holds."""
        return {i for token, i in self.special_tokens.items() if not any(token in marker for marker in markers)}

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones and all, and nothing tidied up behind them."""
        return str(
            self._tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> str:
        """Writes a conversation as a prompt; see `Generator.render_chat`."""
        if self.chat_template is None:
            msg = f"{self._tokenizer.name_or_path or 'this model'} has no chat template, so it was not made to chat"
            raise UnsupportedModelError(
                msg, hint="use a model whose name ends in Instruct or Chat, or HuggingFacePipeline for plain text"
            )
        begins_reply = not variables.get("continue_final_message", False)
        settings = {"add_generation_prompt": begins_reply, **variables, "tokenize": False}
        renderer: Any = self._processor if getattr(self._processor, "chat_template", None) else self._tokenizer
        try:
            return str(renderer.apply_chat_template(list(messages), tools=list(tools) or None, **settings))
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            msg = f"the model's chat template refuses this conversation: {error}"
            raise InputError(msg, hint="change the roles or the order of the messages as it says") from error

    def as_tensors(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Prompts as one batch on the model's device, padded to one length; shape of a tensor: `(prompts, length)`."""
        device = self._model.device
        if prompts[0].media:
            return {name: _moved(value, device, self._model.dtype) for name, value in prompts[0].media.items()}
        longest = max(len(prompt.token_ids) for prompt in prompts)
        padding = self._tokenizer.pad_token_id or 0  # any token does, since it is masked
        ids, mask = [], []
        for prompt in prompts:
            tokens, missing = list(prompt.token_ids), longest - len(prompt.token_ids)
            pads, hole, own = [padding] * missing, [0] * missing, [1] * len(tokens)
            ids.append(pads + tokens if self._pads_left else tokens + pads)
            mask.append(hole + own if self._pads_left else own + hole)
        return {
            "input_ids": torch.tensor(ids, dtype=torch.long, device=device),
            "attention_mask": torch.tensor(mask, dtype=torch.long, device=device),
        }


def words_of(tokenizer: PreTrainedTokenizerBase) -> Words:
    """What a tokenizer says of itself.

    Raises:
        UnsupportedModelError: It is not a fast one.
    """
    if not getattr(tokenizer, "is_fast", False):
        msg = f"the form of an answer needs a fast tokenizer (tokenizer.json), not {type(tokenizer).__name__}"
        raise UnsupportedModelError(msg, hint="leave the required form of the answer out")
    fast: Any = tokenizer
    return Words(fast.backend_tokenizer.to_str(), len(fast), fast.get_added_vocab())


def _table_rows(model: Any) -> int:  # noqa: ANN401 - some model classes have no such table
    try:
        return len(model.get_input_embeddings().weight)
    except (NotImplementedError, AttributeError):
        return sys.maxsize


def _picture(image: bytes, index: int) -> Any:  # noqa: ANN401 - Pillow is needed for images only
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

    try:
        return Image.open(io.BytesIO(image)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        msg = f"image {index} cannot be read: {error}"
        raise InputError(msg, index=index, hint="pass PNG, JPEG or another format that Pillow reads") from error


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:  # noqa: ANN401 - what a processor gives
    if not isinstance(value, torch.Tensor):
        return value
    tensor: Tensor = value.to(device)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
