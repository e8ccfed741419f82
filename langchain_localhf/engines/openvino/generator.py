"""Prompts to texts with openvino-genai."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig

from langchain_localhf.engines.generation.generation import Generation
from langchain_localhf.engines.grammar.grammars import Grammars
from langchain_localhf.engines.openvino import runtime
from langchain_localhf.engines.openvino.devices import check_device, check_settings, device_name, reason
from langchain_localhf.engines.openvino.following import Following
from langchain_localhf.engines.openvino.model_files import ModelFiles
from langchain_localhf.engines.openvino.prompts import PromptReader
from langchain_localhf.engines.openvino.ranking import Ranking
from langchain_localhf.engines.openvino.sampling import OPTIONS, generation_config
from langchain_localhf.engines.openvino.steps import Steps
from langchain_localhf.engines.openvino.writing import Writing
from langchain_localhf.errors import CheckpointError, InputError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_localhf.engines.generation.reply import ReplyReader
    from langchain_localhf.engines.generation.request import Prompt, Request

_TASK = "text-generation"
_OWN_SETTINGS = ("device", "ov_config")
# These named the folder, and have done their work; no code of a model runs here, so there is nothing to trust.
_DONE = ("revision", "cache_dir", "local_files_only", "force_download", "token", "trust_remote_code")
# Settings for generating that old programs put beside the model's.
_GENERATING = OPTIONS | {"max_new_tokens", "max_length", "stop_strings", "num_return_sequences"}
_LIBRARIES = ("openvino-genai", "openvino", "tokenizers")


class OpenVINOGenerator:
    """A language model in openvino-genai; see `langchain_localhf.engines.base.Generator`.

    Args:
        place: The model's folder, or a GGUF file.
        task: What it is used for; `text-generation` is all that this engine does.
        name: The model's repository, or another name for messages.
        device: A device of OpenVINO, or a number for a GPU; None and -1 are the CPU.
        device_map: Refused: it is for accelerate.
        batch_size: How many answers are written together at most; None for as many as fit.
        model_kwargs: `device` and `ov_config`; settings for generating become the model's defaults.

    Raises:
        InputError: A setting is unknown, or OpenVINO refuses it.
        DeviceUnavailableError: There is no such device on this machine.
        UnsupportedModelError: There is no model for OpenVINO, or it is for another task.
        IncompleteModelError: Files are missing.
        CheckpointError: A file is damaged.
    """

    continues_prompt = True
    reads_images = False
    options = OPTIONS

    def __init__(
        self,
        place: Path,
        *,
        task: str,
        name: str,
        device: int | str | None = None,
        device_map: str | Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        settings = dict(model_kwargs or {})
        _check_names(settings)
        if device_map is not None:
            msg = "device_map spreads a model with accelerate, which the openvino engine does not use"
            raise InputError(msg, hint='use device, such as "CPU", "GPU" or "HETERO:GPU,CPU"')
        if task != _TASK:
            msg = f"the openvino engine does {_TASK}, and not {task}"
            raise UnsupportedModelError(msg, hint='use backend="torch" for it')
        place_name, ov_config = _device(settings.get("device"), device), settings.get("ov_config") or {}
        if not isinstance(ov_config, Mapping):
            msg = f"ov_config should hold settings by name, not {ov_config!r}"
            raise InputError(msg, hint='use a dictionary such as {"PERFORMANCE_HINT": "LATENCY"}')
        check_device(place_name)
        check_settings(place_name, ov_config)
        files = ModelFiles.find(place, name=name)
        if files.config.get("is_encoder_decoder"):
            msg = f"{place} is a {files.model_type} model, which the openvino engine does not run"
            raise UnsupportedModelError(msg, hint='use backend="torch" for it')
        self._prompts = PromptReader(files, name=name)
        generating = {key: value for key, value in settings.items() if key in _GENERATING}
        self.defaults: Mapping[str, Any] = {**files.defaults, **generating}
        self.model_type = files.model_type
        self.chat_template = self._prompts.chat_template
        self.context_window = files.context_window
        self.versions = {library: version(library) for library in _LIBRARIES}
        self._grammars: dict[frozenset[int], Grammars] = {}
        self._grammars_lock = threading.Lock()
        self._steps = Steps(lambda: _pipeline(files.model, place_name, ov_config), max_running=batch_size)

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

    def reply_reader(self, prompt: str, *, tools: Sequence[Mapping[str, Any]] = ()) -> ReplyReader | None:  # noqa: ARG002 - see `Generator`
        """None: tokenizers describe replies for transformers, which is not here."""
        return None

    def submit(self, requests: Sequence[Request]) -> list[Generation]:
        """Starts answers; see `Generator.submit`."""
        for request in requests:
            generation_config(request, self._end_ids(request), max_tokens=request.max_tokens)
        writings = [self._writing(request) for request in requests]
        self._steps.submit(writings)
        return [writing.generation for writing in writings]

    def _writing(self, request: Request) -> Writing:
        generation, end_ids = self._generation(request), self._end_ids(request)
        if request.logprobs:
            return Ranking(generation, end_ids, self._writing(replace(request, logprobs=0)))
        if request.constraint is None:
            return Writing(generation, end_ids)
        with self._grammars_lock:
            if end_ids not in self._grammars:
                self._grammars[end_ids] = Grammars(self._prompts.words, self._prompts.width, end_ids)
            grammars = self._grammars[end_ids]
        return Following(generation, end_ids, grammars.matcher(request.constraint, max_tokens=request.max_tokens))

    def _generation(self, request: Request) -> Generation:
        # A stop string that is a special token never shows in the text.
        special = [i for text in request.stop if (i := self._prompts.tokens.special.get(text)) is not None]
        hidden, decode = self._prompts.hidden_ids(request.markers), self._prompts.decode
        return Generation(
            request,
            decode=lambda ids: decode([i for i in ids if i not in hidden]),  # an answer does not hold the model
            end_ids=[*self._end_ids(request), *special],
        )

    def _end_ids(self, request: Request) -> frozenset[int]:
        wanted = request.options.get("eos_token_id", self._prompts.end_ids)
        return frozenset(wanted if isinstance(wanted, list | tuple) else [int(wanted)])


def _check_names(settings: Mapping[str, Any]) -> None:
    known = {*_OWN_SETTINGS, *_DONE, *_GENERATING}
    for name in settings:
        if name not in known:
            similar = get_close_matches(name, known, n=1)
            hint = f"did you mean {similar[0]}?" if similar else "use device and ov_config; leave this out"
            raise InputError(f"the openvino engine has no setting {name!r} in model_kwargs", hint=hint)


def _device(nested: int | str | None, given: int | str | None) -> str:
    if nested is not None and given is not None and device_name(nested) != device_name(given):
        msg = f"device={given!r} and model_kwargs['device']={nested!r} say different things"
        raise InputError(msg, hint="leave one of them out")
    return device_name(given if nested is None else nested)


def _pipeline(model: Path, device: str, ov_config: Mapping[str, Any]) -> ContinuousBatchingPipeline:
    scheduler = SchedulerConfig()
    scheduler.cache_size = 0  # grows as it is needed
    scheduler.enable_prefix_caching = True
    try:
        return runtime.apart(lambda: ContinuousBatchingPipeline(model, scheduler, device, dict(ov_config)))
    except RuntimeError as error:
        msg = f"{model} cannot be loaded: {reason(error)}"
        raise CheckpointError(
            msg, hint="check ov_config, if there is any; else export or copy the model again"
        ) from error
