"""One rule for every way to say how an answer is to be made: later layers win, and nothing is ignored in silence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from langchain_localhf.engines.generation.request import Prompt, Request
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.request import Constraint

DEFAULT_MAX_TOKENS = 256
MAX_ALTERNATIVES = 20

# Other names for the same setting, by LangChain, OpenAI and transformers.
_SYNONYMS = {
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "stop_sequences": "stop",
    "stop_strings": "stop",
    "num_return_sequences": "n",
}
_OWN = ("max_tokens", "max_length", "stop", "seed", "n", "logprobs", "top_logprobs", "truncate", "return_full_text")
# Whoever sets one of these wants to sample.
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")


@dataclass(frozen=True)
class Settings:
    """How answers are to be made, as far as it does not depend on the prompt. Made by `Settings.read`.

    Attributes:
        max_tokens: The most tokens to generate; None if `max_length` or the default decides.
        max_length: The most tokens of prompt and answer together; None if `max_tokens` or the default decides.
            Where both are given, both hold.
        stop: The answer ends before the first of these texts.
        seed: What makes sampling repeatable.
        n: How many answers each prompt gets.
        logprobs: How many alternatives to report for each token; None to report nothing.
        truncate: Whether the start of a prompt that is too long is cut off, instead of refused.
        return_full_text: Whether the text begins with the prompt.
        options: The engine's own settings.
    """

    max_tokens: int | None = None
    max_length: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    logprobs: int | None = None
    truncate: bool = False
    return_full_text: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, generator: Generator, *layers: Mapping[str, Any]) -> Settings:
        """Reads settings for `generator`: its checkpoint's own first, then each layer over the ones before.

        Stop strings add up; of everything else, the last layer that says it wins. A value of None says nothing.

        Raises:
            InputError: A name is unknown, or a value cannot be right.
        """
        merged: dict[str, Any] = {"stop": ()}
        for number, layer in enumerate((generator.defaults, *layers)):
            settings = _with_one_name_each(layer)
            if number:  # a checkpoint may know more than its engine
                _refuse_unknown(settings, generator.options)
                settings = _with_sampling(settings)  # as in transformers, a checkpoint's numbers alone do not sample
            if settings.keys() & {"max_tokens", "max_length"}:
                merged.pop("max_tokens", None)
                merged.pop("max_length", None)
            stop = merged["stop"] + _stop_strings(settings.pop("stop", ()))
            merged |= settings | {"stop": tuple(dict.fromkeys(stop))}
        if "seed" in merged:  # nobody needs one but to sample, if nothing was said about that
            merged.setdefault("do_sample", True)
        return cls(
            max_tokens=_integer(merged, "max_tokens", least=1),
            max_length=_integer(merged, "max_length", least=1),
            stop=merged["stop"],
            seed=_integer(merged, "seed", least=0),
            n=_integer(merged, "n", least=1) or 1,
            logprobs=_alternatives(merged),
            truncate=_truncate(merged.get("truncate")),
            return_full_text=bool(merged.get("return_full_text", False)),
            options={name: value for name, value in merged.items() if name in generator.options},
        )

    def request(
        self,
        generator: Generator,
        prompt: Prompt,
        *,
        sample: int = 0,
        constraint: Constraint | None = None,
        markers: Sequence[str] = (),
        index: int | None = None,
    ) -> Request:
        """A request for an answer to `prompt`, which fits into the generator's context window.

        Args:
            generator: What will answer it.
            prompt: The prompt.
            sample: Which of the `n` answers it is, counted from 0.
            constraint: What the answer has to look like.
            markers: Texts whose special tokens stay in the answer.
            index: The prompt's place in the list that the user gave, for messages.

        Raises:
            InputError: The prompt leaves no room for an answer; the message names both lengths.
        """
        prompt = self._fitted(generator, prompt, index)
        return Request(
            prompt=prompt,
            max_tokens=self._answer_tokens(generator, prompt, index),
            stop=self.stop,
            seed=self.seed,
            sample=sample,
            logprobs=self.logprobs,
            constraint=constraint,
            markers=tuple(markers),
            options=self.options,
        )

    def _fitted(self, generator: Generator, prompt: Prompt, index: int | None) -> Prompt:
        window, length = generator.context_window, len(prompt.token_ids)
        if window is None or length < window + (not generator.continues_prompt):
            return prompt
        if not self.truncate or prompt.media:
            msg = (
                f"{_named(index)} has {length:,} tokens, and the model can look at {window:,}"
                f"{', with its answer' if generator.continues_prompt else ''}"
            )
            hint = 'shorten it, or pass truncate="left" to leave out its start'
            raise InputError(msg, index=index, hint="shorten it" if prompt.media else hint)
        wanted = self.max_tokens or DEFAULT_MAX_TOKENS
        kept = window - min(wanted, window // 2) if generator.continues_prompt else window
        return dataclasses.replace(prompt, token_ids=prompt.token_ids[-kept:])

    def _answer_tokens(self, generator: Generator, prompt: Prompt, index: int | None) -> int:
        taken = len(prompt.token_ids) if generator.continues_prompt else 0
        limits = [self.max_tokens] if self.max_tokens else []
        if self.max_length is not None:
            if self.max_length <= taken:
                msg = f"{_named(index)} has {taken:,} tokens, and max_length={self.max_length:,} counts them too"
                raise InputError(msg, index=index, hint="use max_new_tokens, which counts the answer alone")
            limits.append(self.max_length - taken)
        limits = limits or [DEFAULT_MAX_TOKENS]
        if generator.context_window is not None:
            limits.append(generator.context_window - taken)
        return min(limits)


def _named(index: int | None) -> str:
    return "the prompt" if index is None else f"prompt {index}"


def _with_one_name_each(layer: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    given: dict[str, str] = {}
    for name, value in layer.items():
        if value is None:
            continue
        one_name, one_value = _SYNONYMS.get(name, name), value
        if name == "skip_prompt":
            one_name, one_value = "return_full_text", not value
        if one_name in settings and settings[one_name] != one_value:
            msg = f"{given[one_name]} and {name} are two names for one setting, and say different things"
            raise InputError(msg, hint=f"leave {name} out")
        settings[one_name], given[one_name] = one_value, name
    return settings


def _refuse_unknown(settings: Mapping[str, Any], options: frozenset[str]) -> None:
    known = {*_OWN, *_SYNONYMS, "skip_prompt", *options}
    for name in settings:
        if name not in known:
            similar = get_close_matches(name, known, n=1)
            hint = f"did you mean {similar[0]}?" if similar else f"known are {', '.join(sorted({*_OWN, *options}))}"
            raise InputError(f"there is no setting {name!r} for generating text", hint=hint)


def _with_sampling(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that say whether to sample, if any of them is about sampling."""
    if settings.get("temperature") == 0:
        rest = {name: value for name, value in settings.items() if name != "temperature"}
        return rest | {"do_sample": False}
    if "do_sample" not in settings and settings.keys() & {*_SAMPLING}:
        return settings | {"do_sample": True}
    return settings


def _stop_strings(value: object) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple | set) else (value,)
    if not all(isinstance(text, str) and text for text in texts):
        msg = f"stop should be texts that are not empty, not {value!r}"
        raise InputError(msg, hint=r'use a list such as stop=["\n\n"]')
    return tuple(str(text) for text in texts)


def _integer(settings: Mapping[str, Any], name: str, *, least: int) -> int | None:
    value = settings.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        msg = f"{name} should be a whole number from {least}, not {value!r}"
        raise InputError(msg, hint=f"change {name}, or leave it out")
    return value


def _alternatives(settings: Mapping[str, Any]) -> int | None:
    """How many alternatives `logprobs` and `top_logprobs` ask for: OpenAI's pair, or a number in `logprobs`."""
    asked, count = settings.get("logprobs"), _integer(settings, "top_logprobs", least=0)
    if not isinstance(asked, bool):
        number = _integer(settings, "logprobs", least=0)
        count = number if number is not None else count
    elif not asked:
        return None
    else:
        count = count or 0
    if count is not None and count > MAX_ALTERNATIVES:
        msg = f"{count} alternatives for each token were asked for, and at most {MAX_ALTERNATIVES} are reported"
        raise InputError(msg, hint=f"use top_logprobs={MAX_ALTERNATIVES}")
    return count


def _truncate(value: object) -> bool:
    if value not in (None, "left", False):
        msg = f"a prompt can be truncated on its left only, not {value!r}"
        raise InputError(msg, hint='use truncate="left"')
    return value == "left"
