"""Prompts to texts with transformers' `generate`."""

from __future__ import annotations

import copy
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from langchain_localhf.engines.generation.generation import Generation, Token
from langchain_localhf.engines.grammar.grammars import Grammars
from langchain_localhf.engines.torch.batch import Batch, can_be_padded, merged, of_like_lengths
from langchain_localhf.engines.torch.decoding import WARPER_NAMES, Abandoning, Choosing, Ending, Row, warpers
from langchain_localhf.engines.torch.prompts import PromptReader
from langchain_localhf.engines.torch.queue import GenerationQueue, options_key
from langchain_localhf.engines.torch.responses import TemplateReader, available
from langchain_localhf.errors import EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from langchain_localhf.engines.generation.reply import ReplyReader
    from langchain_localhf.engines.generation.request import Prompt, Request
    from langchain_localhf.engines.grammar.grammars import Matcher
    from langchain_localhf.engines.torch.language_model import LanguageModel

# The settings of transformers' `GenerationConfig` that a request may have, beside those that shape sampling.
_SEARCH = {"do_sample", "num_beams", "early_stopping", "length_penalty", "eos_token_id", "use_cache"}
# These look at the prompt, or count its tokens, and would see the padding of a shorter prompt in a batch.
_READS_PROMPT = {
    "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "sequence_bias", "min_length", "min_new_tokens", "exponential_decay_length_penalty",
    "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "guidance_scale",
    "remove_invalid_values", "renormalize_logits", "prefill_chunk_size", "decoder_start_token_id",
    "cache_implementation",
}  # fmt: skip
_OPTIONS = WARPER_NAMES | _SEARCH | _READS_PROMPT
_LIBRARIES = ("transformers", "torch", "tokenizers")


class TorchGenerator:
    """A language model in transformers; see `langchain_localhf.engines.base.Generator`.

    Args:
        language_model: The model with its tokenizer, loaded and proved, or a user's own.
        batch_size: How many prompts run together at most; None for as many as pay.
    """

    def __init__(self, language_model: LanguageModel, *, batch_size: int | None = None) -> None:
        # A view that shares the weights: what the checkpoint says about generating is in `defaults`, and its copy in
        # the model would be mixed in behind the back of what the user says.
        self._model: Any = copy.copy(language_model.model)
        self._model.generation_config = _special_tokens(language_model)
        ends = (language_model.model.generation_config.eos_token_id, language_model.tokenizer.eos_token_id)
        self._own_end_ids = next((token_ids for token_ids in ends if token_ids is not None), None)
        self._tokenizer = language_model.tokenizer
        self._prompts = PromptReader(language_model)
        self.defaults = language_model.defaults
        self.options = _OPTIONS
        config = self._model.config
        self.model_type = str(config.model_type)
        self.continues_prompt = not config.is_encoder_decoder
        self.reads_images = self._prompts.reads_images
        self.chat_template = self._prompts.chat_template
        self.context_window = language_model.context_window
        self.versions = {library: version(library) for library in _LIBRARIES}
        self._grammars: dict[frozenset[int], Grammars] = {}
        self._grammars_lock = threading.Lock()
        # A model that carries a state from token to token, and no mask, would carry the padding along.
        self._pads = not getattr(self._model, "_is_stateful", False)
        self._merges = True  # until the model turns out to keep its cache in another form
        self._queue = GenerationQueue(self._run, key=self._batch_key, max_rows=batch_size)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: copies of the object that holds it share the model."""
        return self

    def read_prompt(self, text: str, *, images: Sequence[bytes] = (), special_tokens: bool = True) -> Prompt:
        """Tokenizes a prompt; see `Generator.read_prompt`."""
        return self._prompts.read(text, images=images, special_tokens=special_tokens)

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text alone, without special ones."""
        return self._prompts.token_ids(text)

    def token_text(self, token_id: int) -> str:
        """The text of one token alone."""
        return self._prompts.decode([token_id])

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Writes a conversation as a prompt; see `Generator.render_chat`."""
        return self._prompts.render_chat(messages, tools=tools, variables=variables or {})

    def reply_reader(self, prompt: str, *, tools: Sequence[Mapping[str, Any]] = ()) -> ReplyReader | None:
        """Reads a reply as the tokenizer's own description says; see `Generator.reply_reader`."""
        template = getattr(self._tokenizer, "response_template", None)
        return TemplateReader(template, prompt=prompt, tools=tools) if template and available() else None

    def submit(self, requests: Sequence[Request]) -> list[Generation]:
        """Starts answers; see `Generator.submit`."""
        for request in requests:
            self._check(request)
        generations = [self._generation(request) for request in requests]
        for generation in generations:
            try:
                self._config([generation]).validate()
            except (TypeError, ValueError) as error:
                msg = f"these settings cannot be used: {error}"
                raise InputError(msg, hint="change or leave out the one named") from error
        self._queue.submit(generations)
        return generations

    def _check(self, request: Request) -> None:
        if _samples(request):
            warpers(request.options)
        if _beams(request) > 1:
            for what, given in (
                ("seed", request.seed is not None and _samples(request)),
                ("logprobs", request.logprobs is not None),
                ("a constraint on its form", request.constraint is not None),
            ):
                if given:
                    msg = f"an answer that is searched with num_beams={_beams(request)} cannot have {what}"
                    raise InputError(msg, hint="leave num_beams out")
            if request.sample >= _beams(request):
                msg = f"a search with num_beams={_beams(request)} cannot give {request.sample + 1} answers"
                raise InputError(msg, hint="raise num_beams, or lower n")
        self._matcher(request)

    def _generation(self, request: Request) -> Generation:
        # A stop string that is a special token never shows in the text.
        special = [i for text in request.stop if (i := self._prompts.special_tokens.get(text)) is not None]
        hidden = self._prompts.hidden_ids(request.markers)
        return Generation(
            request,
            decode=lambda ids: self._prompts.decode([i for i in ids if i not in hidden]),
            end_ids=[*self._end_ids(request), *special],
        )

    def _end_ids(self, request: Request) -> list[int]:
        wanted = request.options.get("eos_token_id", self._own_end_ids)
        return [] if wanted is None else list(wanted) if isinstance(wanted, list | tuple) else [int(wanted)]

    def _matcher(self, request: Request) -> Matcher | None:
        if request.constraint is None:
            return None
        end_ids = frozenset(self._end_ids(request))
        with self._grammars_lock:
            if end_ids not in self._grammars:
                width = int(self._model.get_output_embeddings().weight.shape[0])
                self._grammars[end_ids] = Grammars(self._prompts.words, width, end_ids)
            grammars = self._grammars[end_ids]
        return grammars.matcher(request.constraint, max_tokens=request.max_tokens)

    def _batch_key(self, request: Request) -> Hashable:
        """What requests have to have in common to share a batch without changing one another's answer."""
        alone = id(request) if request.prompt.media else None
        reads_prompt = not self._pads or request.options.keys() & _READS_PROMPT
        length = len(request.prompt.token_ids) if reads_prompt else None
        searched = (request.max_tokens, request.sample) if _beams(request) > 1 else None
        return alone, length, searched, options_key(dict(request.options))

    def _run(self, batch: list[Generation]) -> None:
        try:
            if _beams(batch[0].request) > 1:
                self._search(batch)
            else:
                self._decode(batch)
        except Exception as error:  # noqa: BLE001 - whoever waits for an answer gets it
            self._rescue(batch, error)

    def _rescue(self, batch: Sequence[Generation], error: Exception) -> None:
        """Runs those one by one that have not begun: whatever was wrong with one of them is not the others' fault."""
        for generation in batch:
            if len(batch) == 1 or generation.token_count:
                generation.fail(_translated(error, batch))
            else:
                self._run([generation])

    def _decode(self, generations: list[Generation]) -> None:
        request = generations[0].request
        shaping = warpers(request.options) if _samples(request) else LogitsProcessorList()
        rows = [self._row(generation) for generation in generations]
        if not self._may_change(request):
            self._advanced(self._batch(rows), shaping)
        else:
            batch = self._begun(rows, shaping)
            while batch.rows:
                batch = self._advanced(batch, shaping, all_together=False)
        for generation in generations:  # whatever else may have ended it
            generation.finish()

    def _begun(self, rows: list[Row], shaping: LogitsProcessorList) -> Batch:
        """A batch of these rows, in which prompts of unlike lengths have their first token already."""
        lengths = [len(row.generation.request.prompt.token_ids) for row in rows]
        groups = of_like_lengths(lengths) if self._merges and self._model.device.type == "cpu" else []
        if len(groups) < 2:  # noqa: PLR2004 - one is none
            return self._batch(rows)
        begun = []
        for group in groups:
            batch = self._batch([rows[place] for place in group])
            try:
                begun.append(self._advanced(batch, shaping, max_new_tokens=1))
            except Exception as error:  # noqa: BLE001 - as in `_run`, and the other groups go on
                self._rescue([row.generation for row in batch.rows], error)
        going_on = [batch for batch in begun if batch.rows]
        self._merges = all(can_be_padded(batch.inputs.get("past_key_values")) for batch in going_on)
        return merged(going_on) if going_on else Batch([], {})

    def _batch(self, rows: list[Row]) -> Batch:
        return Batch(rows, self._prompts.as_tensors([row.generation.request.prompt for row in rows]))

    def _advanced(
        self, batch: Batch, shaping: LogitsProcessorList, *, all_together: bool = True, **changes: object
    ) -> Batch:
        """A batch after some more tokens: without the rows that are over."""
        choosing = Choosing(batch.rows, shaping)
        generations = [row.generation for row in batch.rows]
        written = self._model.generate(
            **batch.inputs,
            generation_config=self._config(generations, return_dict_in_generate=True, **changes),
            logits_processor=LogitsProcessorList([choosing]),
            stopping_criteria=StoppingCriteriaList([Ending(batch.rows, choosing, all_together=all_together)]),
        )
        return batch.after(written)

    def _may_change(self, request: Request) -> bool:
        """Whether rows can leave a batch and come together in one: all that `generate` knows of them is at hand."""
        plain = self.continues_prompt and self._pads and not request.prompt.media
        # On that device transformers takes the last step back, when it stops.
        return plain and not request.options.keys() & _READS_PROMPT and self._model.device.type != "mps"

    def _row(self, generation: Generation) -> Row:
        request = generation.request
        seed = None if request.seed is None else (request.seed, request.sample)
        return Row(
            generation,
            matcher=self._matcher(request),
            random=np.random.default_rng(seed) if _samples(request) else None,
        )

    def _search(self, batch: list[Generation]) -> None:
        """Beam search: which answer is the best is known only at the end."""
        request = batch[0].request
        answers = request.sample + 1
        config = self._config(batch[:1], num_return_sequences=answers)
        inputs = self._prompts.as_tensors([generation.request.prompt for generation in batch])
        found = self._model.generate(
            **inputs, generation_config=config, stopping_criteria=StoppingCriteriaList([Abandoning(batch)])
        )
        start = inputs["input_ids"].shape[1] if self.continues_prompt else 1
        for index, generation in enumerate(batch):
            for token_id in found[index * answers + request.sample, start:].tolist():
                generation.accept(Token(token_id))
            generation.finish()

    def _config(self, batch: Sequence[Generation], **changes: object) -> GenerationConfig:
        request = batch[0].request
        options = dict(request.options)
        if not (_beams(request) > 1 and _samples(request)):  # else `Choosing` samples, or nobody does
            options = {name: value for name, value in options.items() if name not in WARPER_NAMES}
            options["do_sample"] = False
        settings = options | {
            "max_new_tokens": max(generation.tokens_left for generation in batch),
            "eos_token_id": self._end_ids(request) or None,
        }
        return GenerationConfig(**settings | changes)  # type: ignore[no-untyped-call]


def _samples(request: Request) -> bool:
    return bool(request.options.get("do_sample"))


def _beams(request: Request) -> int:
    return int(request.options.get("num_beams") or 1)


def _special_tokens(language_model: LanguageModel) -> GenerationConfig:
    """What a model needs to know to generate at all; what ends an answer is said with each."""
    own, tokenizer = language_model.model.generation_config, language_model.tokenizer
    padding = (own.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=own.bos_token_id,
        pad_token_id=next(token_id for token_id in padding if token_id is not None),
        decoder_start_token_id=own.decoder_start_token_id,
    )


def _translated(error: Exception, batch: Sequence[Generation]) -> EngineError:
    if isinstance(error, torch.OutOfMemoryError):
        msg = f"there was not enough memory to generate {len(batch)} answers together"
        return EngineError(msg, hint="lower batch_size or max_new_tokens, or shorten the prompts")
    msg = f"the model failed while it generated: {type(error).__name__}: {error}"
    return EngineError(msg, hint="check the settings for generating; without any, the model or its code is at fault")
