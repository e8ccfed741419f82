"""A request in the words of openvino-genai."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import numpy as np
from openvino_genai import GenerationConfig, StopCriteria

from langchain_localhf.engines.openvino.devices import reason
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

    from langchain_localhf.engines.generation.request import Request

# The settings of transformers' `GenerationConfig` that openvino-genai has, too, with the same meaning.
_SAMPLING = {"temperature", "top_p", "top_k", "min_p"}
_PENALTIES = {"repetition_penalty", "presence_penalty", "frequency_penalty"}
_OF_BEAMS = {"length_penalty", "early_stopping"}
OPTIONS = frozenset({"do_sample", "num_beams", "min_new_tokens", "eos_token_id"} | _SAMPLING | _PENALTIES | _OF_BEAMS)
_TOP_K = 50  # of transformers, wherever it samples
_STOP_CRITERIA = {True: StopCriteria.EARLY, False: StopCriteria.HEURISTIC, "never": StopCriteria.NEVER}
_SEED_BITS = 32


def samples(request: Request) -> bool:
    """Whether chance plays a part."""
    return bool(request.options.get("do_sample"))


def beams(request: Request) -> int:
    """How many answers are followed at once, to find the most probable one."""
    return int(request.options.get("num_beams") or 1)


def generation_config(
    request: Request,
    end_ids: Collection[int],
    *,
    max_tokens: int,
    written: int = 0,
    forbidden: Collection[int] = (),
) -> GenerationConfig:
    """How openvino-genai has to continue a prompt.

    Args:
        request: What is asked for.
        end_ids: The tokens that end an answer.
        max_tokens: The most tokens to generate.
        written: How many tokens of the answer are there already, as the end of the prompt.
        forbidden: Tokens that the next one must not be.

    Raises:
        InputError: A value is out of its range, or settings contradict each other.
    """
    config = GenerationConfig()
    config.apply_chat_template = False
    config.max_new_tokens = max_tokens
    if forbidden:
        # What ends an answer cannot come before the least number of tokens; that such a token ends it is ignored then.
        config.eos_token_id, config.stop_token_ids = min(forbidden), set(forbidden)
        config.ignore_eos, config.min_new_tokens = True, 1
    elif end_ids:
        config.eos_token_id, config.stop_token_ids = min(end_ids), set(end_ids)
    else:
        config.ignore_eos = True
    config.logprobs = 0 if request.logprobs is None else 1
    for name, value in _settings(request, max_tokens, written).items():
        try:
            setattr(config, name, value)
        except TypeError as error:
            msg = f"{name}={value!r} cannot be used: it is {type(value).__name__}"
            raise InputError(msg, hint=f"change {name}, or leave it out") from error
    try:
        config.validate()
    except RuntimeError as error:
        msg = f"these settings cannot be used: {reason(error)}"
        raise InputError(msg, hint="change or leave out the one named") from error
    return config


def _settings(request: Request, max_tokens: int, written: int) -> dict[str, Any]:
    options = dict(request.options)
    count = beams(request)
    if request.constraint is not None:
        _check_constrained(options)
    chosen = {name: value for name, value in options.items() if name in _PENALTIES}
    if "min_new_tokens" in options:
        chosen["min_new_tokens"] = min(options["min_new_tokens"], max_tokens)
    if count > 1:
        _check_beams(request)
        chosen |= {"num_beams": count, "num_return_sequences": request.sample + 1}
        chosen |= {"length_penalty": options["length_penalty"]} if "length_penalty" in options else {}
        chosen["stop_criteria"] = _stop_criterion(options.get("early_stopping", False))
    elif samples(request):
        top_k = options.get("top_k", _TOP_K)
        chosen |= {name: value for name, value in options.items() if name in _SAMPLING - {"top_k"}}
        chosen |= {"top_k": top_k} if top_k else {}
        chosen |= {"do_sample": True, "rng_seed": _seed(request, written)}
    return chosen


def _check_constrained(options: dict[str, Any]) -> None:
    """Refuses what counts the tokens of an answer: one of a required form is written in parts."""
    for name in ("presence_penalty", "frequency_penalty", "min_new_tokens"):
        if options.get(name):
            msg = f"an answer of a required form cannot have {name} on the openvino engine"
            raise InputError(msg, hint=f'leave {name} out, use repetition_penalty, or backend="torch"')


def _check_beams(request: Request) -> None:
    count, options = beams(request), request.options
    for what, given in (
        ("do_sample", samples(request)),
        ("logprobs", request.logprobs is not None),
        ("a constraint on its form", request.constraint is not None),
        *((name, name in options) for name in sorted(_PENALTIES)),
    ):
        if given:
            msg = f"an answer that is searched with num_beams={count} cannot have {what} on the openvino engine"
            raise InputError(msg, hint="leave num_beams out")
    if request.sample >= count:
        msg = f"a search with num_beams={count} cannot give {request.sample + 1} answers"
        raise InputError(msg, hint="raise num_beams, or lower n")


def _stop_criterion(value: object) -> StopCriteria:
    if not isinstance(value, bool | str) or value not in _STOP_CRITERIA:
        msg = f"early_stopping={value!r} cannot be used"
        raise InputError(msg, hint='use True, False or "never"')
    return _STOP_CRITERIA[value]


def _seed(request: Request, written: int) -> int:
    """Each answer draws from a stream of its own, whatever else runs."""
    if request.seed is None:
        return secrets.randbits(_SEED_BITS)
    return int(np.random.SeedSequence((request.seed, request.sample, written)).generate_state(1)[0])
