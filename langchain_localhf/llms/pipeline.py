"""Language models for LangChain from a model that is already on this machine: a text in, a text out.

Drop-in for `langchain_huggingface.HuggingFacePipeline` and the class of `langchain_community`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from langchain_core.language_models.llms import BaseLLM
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import get_config_list
from pydantic import ConfigDict, Field, PrivateAttr

from langchain_localhf import engines
from langchain_localhf.engines.generation.settings import Settings
from langchain_localhf.errors import InputError
from langchain_localhf.llms.results import aannounced, announced, result
from langchain_localhf.loading import load_generator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models.base import LanguageModelInput
    from langchain_core.outputs import GenerationChunk, LLMResult
    from langchain_core.runnables import RunnableConfig

    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.generation import Generation
    from langchain_localhf.loaded import LoadedGenerator

# langchain-huggingface's names for engines.
_BACKENDS = {"default": "torch", "ipex": "torch"}
# Callers of `batch` wait in threads of their own, and the model answers many of them together.
_MAX_WAITING = 64
# What LangChain passes to `generate` beside what is meant for the model.
_OF_LANGCHAIN = ("callbacks", "tags", "metadata", "run_name", "run_id")


class HuggingFacePipeline(BaseLLM):
    r"""Continues or answers texts with a transformers model from this machine; never downloads.

    ```python
    from langchain_localhf import HuggingFacePipeline

    hf = HuggingFacePipeline.from_model_id("gpt2", task="text-generation", pipeline_kwargs={"max_new_tokens": 10})
    hf.invoke("Once upon a time", stop=["\n"])
    ```

    Settings for generating are taken from, the last one wins: the checkpoint's `generation_config.json`,
    `pipeline_kwargs`, what was bound, and what is passed with a call; stop strings add up. Beside those of
    transformers' `GenerationConfig` there are `stop`, `seed`, `n`, `logprobs`, `truncate="left"` and
    `return_full_text`. Prompts that are waiting together run together, longest first; each answer is what it would be
    alone.

    Raises:
        ModelReferenceError: The model's name cannot be read.
        ModelNotFoundError: The model is not on this machine; the hint is the command that brings it.
        IntegrityError: Its files are not those that were pulled.
        CheckpointError: The model is incomplete, unsafe, of another task, or would not run with its own weights.
        EngineError: Its engine is not installed, or there is no such device.
        InputError: A setting is unknown, or a value cannot be right.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    pipeline: Any = Field(default=None, repr=False, exclude=True)
    """A transformers pipeline of your own, instead of a model's name."""
    model_id: str | None = None
    """A folder, `org/name`, `org/name@revision`, or a bare name such as `gpt2`; for OpenVINO, also a GGUF file."""
    task: str = "text-generation"
    """`text-generation`, `image-text-to-text`, `text2text-generation`, `summarization` or `translation`."""
    backend: str = "default"
    """The engine: `default` is torch; `openvino` runs what `localhf compile` or optimum-cli made, and GGUF files."""
    device: int | str | None = None
    """A number for a GPU, -1 or "cpu" for the CPU, or a name as the engine knows it; by itself, torch takes the first
    GPU if any, and OpenVINO the CPU."""
    device_map: str | dict[str, Any] | None = None
    """How accelerate spreads the model over devices; not together with `device`."""
    model_kwargs: dict[str, Any] | None = None
    """What `from_pretrained` takes, such as `dtype`, `trust_remote_code` or `revision`; for OpenVINO, `device` and
    `ov_config`, the properties with which it compiles."""
    pipeline_kwargs: dict[str, Any] | None = None
    """Settings for generating, such as `max_new_tokens`, `temperature` or `return_full_text`."""
    batch_size: int | None = None
    """How many prompts run together at most; None for as many as pay."""

    _generator: Generator = PrivateAttr()
    _loaded: LoadedGenerator | None = PrivateAttr(default=None)  # held, so that objects with equal settings share it
    _call_settings: dict[str, Any] = PrivateAttr(default_factory=dict)

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401 - the fields below
        # Not a pydantic validator: that would turn the package's own errors into a ValidationError.
        super().__init__(**fields)
        self._load()
        Settings.read(self._generator, self.pipeline_kwargs or {})

    def _load(self) -> None:
        if self.pipeline is not None:
            self._generator = engines.adopt_pipeline(self.pipeline, batch_size=self.batch_size)
            self.model_id = self.model_id or self.pipeline.model.name_or_path
            self.task = self.pipeline.task
            return
        if self.model_id is None:
            raise InputError("no model was named", hint='pass model_id, such as "gpt2", or a pipeline of your own')
        self._loaded = load_generator(
            self.model_id,
            task=self.task,
            backend=_BACKENDS.get(self.backend, self.backend),
            device=self.device,
            device_map=self.device_map,
            batch_size=self.batch_size,
            model_kwargs=self.model_kwargs,
        )
        self._generator = self._loaded.generator

    def __getstate__(self) -> dict[Any, Any]:
        """Everything but the running model, which another process loads for itself."""
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {"_loaded": None, "_call_settings": {}}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Restores the settings and loads the model again."""
        super().__setstate__(state)
        self._load()

    @classmethod
    def from_model_id(  # noqa: PLR0913, PLR0917 - the signature of langchain-huggingface
        cls,
        model_id: str,
        task: str,
        backend: str = "default",
        device: int | str | None = None,
        device_map: str | dict[str, Any] | None = None,
        model_kwargs: dict[str, Any] | None = None,
        pipeline_kwargs: dict[str, Any] | None = None,
        batch_size: int | None = None,
        **fields: Any,  # noqa: ANN401 - the fields that every LLM of LangChain has
    ) -> Self:
        """Loads a model by its name; each argument is the field of that name."""
        return cls(
            model_id=model_id,
            task=task,
            backend=backend,
            device=device,
            device_map=device_map,
            model_kwargs=model_kwargs,
            pipeline_kwargs=pipeline_kwargs,
            batch_size=batch_size,
            **fields,
        )

    @property
    def generator(self) -> Generator:
        """The running model; several objects may share it."""
        return self._generator

    @property
    def _llm_type(self) -> str:
        return "huggingface_pipeline"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {
            "model_id": self.model_id,
            "task": self.task,
            "model_kwargs": self.model_kwargs,
            "pipeline_kwargs": self.pipeline_kwargs,
            **({"call": self._call_settings} if self._call_settings else {}),
        }

    def get_token_ids(self, text: str) -> list[int]:
        """The tokens of a text, by the model's own tokenizer, without special ones."""
        return self._generator.token_ids(text)

    # LangChain caches answers by the settings of the object; those of a call count as much.

    def generate(self, prompts: list[str], stop: list[str] | None = None, *args: Any, **settings: Any) -> LLMResult:  # noqa: ANN401
        """Answers prompts; see `BaseLLM.generate`."""
        return super(HuggingFacePipeline, self._for_call(settings)).generate(prompts, stop, *args, **settings)

    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        *args: Any,  # noqa: ANN401
        **settings: Any,  # noqa: ANN401
    ) -> LLMResult:
        """Answers prompts without blocking the event loop; see `BaseLLM.agenerate`."""
        return await super(HuggingFacePipeline, self._for_call(settings)).agenerate(prompts, stop, *args, **settings)

    def _for_call(self, settings: Mapping[str, Any]) -> Self:
        copy = self.model_copy()
        copy._call_settings = {name: value for name, value in settings.items() if name not in _OF_LANGCHAIN}  # noqa: SLF001 - it is this class's own
        return copy

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **settings: Any,  # noqa: ANN401
    ) -> list[str]:
        """Answers inputs together; with `return_exceptions`, one that fails is an exception in the list."""
        if not return_exceptions or not inputs:
            return super().batch(inputs, config, **settings)
        configs = get_config_list(config, len(inputs))
        waiting = configs[0].get("max_concurrency") or min(len(inputs), _MAX_WAITING)
        configs = [{**single, "max_concurrency": waiting} for single in configs]
        return Runnable.batch(self, inputs, configs, return_exceptions=True, **settings)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **settings: Any,  # noqa: ANN401
    ) -> list[str]:
        """As `batch`, without blocking the event loop."""
        if not return_exceptions:
            return await super().abatch(inputs, config, **settings)
        return await Runnable.abatch(self, inputs, config, return_exceptions=True, **settings)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - answers come whole
        **kwargs: Any,  # noqa: ANN401
    ) -> LLMResult:
        settings = self._settings(stop, kwargs)
        generations = self._submit(prompts, settings)
        try:
            answers = [generation.answer() for generation in generations]
        finally:
            for generation in generations:
                generation.cancel()
        return result(prompts, answers, settings, self._generator, model_name=self.model_id)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - answers come whole
        **kwargs: Any,  # noqa: ANN401
    ) -> LLMResult:
        settings = self._settings(stop, kwargs)
        generations = await asyncio.to_thread(self._submit, prompts, settings)
        try:
            answers = await asyncio.gather(*(generation.aanswer() for generation in generations))
        finally:
            for generation in generations:
                generation.cancel()
        return result(prompts, answers, settings, self._generator, model_name=self.model_id)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Iterator[GenerationChunk]:
        settings = self._settings(stop, kwargs)
        (generation,) = self._submit([prompt], _single(settings))
        try:
            if settings.return_full_text and prompt:
                yield announced(prompt, run_manager)
            for piece in generation:
                yield announced(piece, run_manager)
        finally:
            generation.cancel()

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> AsyncIterator[GenerationChunk]:
        settings = self._settings(stop, kwargs)
        (generation,) = await asyncio.to_thread(self._submit, [prompt], _single(settings))
        try:
            if settings.return_full_text and prompt:
                yield await aannounced(prompt, run_manager)
            async for piece in generation:
                yield await aannounced(piece, run_manager)
        finally:
            generation.cancel()

    def _settings(self, stop: Sequence[str] | None, kwargs: Mapping[str, Any]) -> Settings:
        called = {name: value for name, value in kwargs.items() if name != "pipeline_kwargs"}
        layers = (self.pipeline_kwargs or {}, kwargs.get("pipeline_kwargs") or {}, called, {"stop": stop})
        settings = Settings.read(self._generator, *layers)
        if settings.return_full_text and not self._generator.continues_prompt:
            msg = f"a {self.task} model does not continue its prompt, so there is no full text to return"
            raise InputError(msg, hint="leave return_full_text out")
        return settings

    def _submit(self, prompts: Sequence[str], settings: Settings) -> list[Generation]:
        """Starts the answers, `settings.n` for each prompt, one prompt after the other."""
        requests = []
        for index, text in enumerate(prompts):
            place = index if len(prompts) > 1 else None
            try:
                prompt = self._generator.read_prompt(text)
            except InputError as error:
                raise InputError(error.message, index=place, hint=error.hint) from error
            requests += [
                settings.request(self._generator, prompt, sample=sample, index=place) for sample in range(settings.n)
            ]
        return self._generator.submit(requests)


def _single(settings: Settings) -> Settings:
    """The settings for a stream, which is one answer."""
    if settings.n > 1:
        raise InputError(f"a stream is one answer, not {settings.n}", hint="leave n out, or use invoke or generate")
    return settings
