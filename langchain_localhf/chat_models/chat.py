"""A chat model for LangChain: a conversation in, its next message out.

Drop-in for `langchain_huggingface.ChatHuggingFace` with a model that runs on this machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from langchain_core.language_models.model_profile import ModelProfile
from pydantic import ConfigDict, Field

from langchain_localhf.chat_models.answering import GeneratorChatModel
from langchain_localhf.chat_models.checks import names_of_fields, refuse_other_tokenizer, refuse_unknown_fields
from langchain_localhf.chat_models.formats import format_for
from langchain_localhf.chat_models.structured import Method, structured
from langchain_localhf.chat_models.tools import as_functions, tool_constraint
from langchain_localhf.chat_models.turns import Turn, count_tokens, read_settings
from langchain_localhf.errors import InputError, UnsupportedModelError
from langchain_localhf.llms import HuggingFacePipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool
    from pydantic import BaseModel

    from langchain_localhf.chat_models.formats import ReplyFormat
    from langchain_localhf.engines.base import Generator

_SETTINGS = (
    "temperature", "top_p", "seed", "n", "max_tokens", "stop", "logprobs", "top_logprobs",
    "presence_penalty", "frequency_penalty", "logit_bias",
)  # fmt: skip
# The arguments of `from_model_id` that are fields of the pipeline.
_OF_THE_PIPELINE = ("device", "device_map", "model_kwargs", "batch_size")
_REMOTE_BACKENDS = ("endpoint", "text-gen")
# What a call may say that is for LangChain, not for the model.
_OF_LANGCHAIN = ("stream", "stream_usage", "model")


class ChatHuggingFace(GeneratorChatModel):
    """Chats with a transformers model from this machine; never downloads.

    ```python
    from langchain_localhf import ChatHuggingFace

    chat = ChatHuggingFace.from_model_id("Qwen/Qwen3-0.6B", max_tokens=200)
    chat.invoke("Where is the harbour?")
    ```

    Prompts are written with the model's own chat template. Settings for generating are taken from, the last one wins:
    the checkpoint's `generation_config.json`, the pipeline's `pipeline_kwargs`, `model_kwargs`, the fields of this
    object, what was bound, and what is passed with a call; stop strings add up. A call may also have `tools`,
    `tool_choice`, `parallel_tool_calls`, `response_format` as OpenAI's, and `chat_template_kwargs`.

    Conversations that wait for an answer at the same time, by `batch`, `abatch` or from several threads, are answered
    together. A stream that is closed and a task that is cancelled end their answer.

    Raises:
        UnsupportedModelError: The model has no chat template.
        InputError: A field is unknown, or its value cannot be right.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())

    llm: HuggingFacePipeline = Field(repr=False)
    """The model that answers."""
    tokenizer: Any = Field(default=None, repr=False, exclude=True)
    """The model's tokenizer is used, whether or not it is passed; another one is refused."""
    model_id: str | None = None
    """The name that the metadata of answers state; the model's own by itself."""
    temperature: float | None = None
    """How much chance there is in sampling; 0 takes the most probable token each time."""
    stop: str | list[str] | None = Field(default=None, alias="stop_sequences")
    """Texts that end an answer; they are not in it."""
    presence_penalty: float | None = None
    """Not for local models; use `model_kwargs={"repetition_penalty": ...}`."""
    frequency_penalty: float | None = None
    """Not for local models; use `model_kwargs={"repetition_penalty": ...}`."""
    seed: int | None = None
    """What makes sampling repeatable."""
    logprobs: bool | None = None
    """Whether the metadata state the probability of each token."""
    top_logprobs: int | None = None
    """How many more probable tokens the metadata state at each place."""
    logit_bias: dict[str, Any] | None = None
    """Not for local models; use `model_kwargs={"sequence_bias": ...}`."""
    n: int | None = None
    """How many answers `generate` gives to each conversation."""
    top_p: float | None = None
    """Samples from the most probable tokens that make up this probability together."""
    max_tokens: int | None = None
    """The most tokens of an answer; 256 if nothing says otherwise."""
    streaming: bool = False
    """Whether `invoke` streams too, for callbacks that want every piece."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """More settings for generating, such as `top_k` or `repetition_penalty`."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """What the chat template takes, such as `enable_thinking`; `continue_final_message` continues the last message."""
    max_retries: int | None = None
    """Changes nothing: what fails on this machine fails again."""

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401 - the fields above
        # Not a pydantic validator: that would turn the package's own errors into a ValidationError.
        refuse_unknown_fields(type(self), fields)
        if not isinstance(llm := fields.get("llm"), HuggingFacePipeline):
            msg = f"llm should be the HuggingFacePipeline of langchain_localhf, not {type(llm)}"
            raise InputError(msg, hint="use ChatHuggingFace.from_model_id(...), or HuggingFacePipeline(pipeline=...)")
        super().__init__(**fields)
        self.model_id = self.model_id or self.llm.model_id
        if self._generator.chat_template is None:
            msg = f"{self.model_id} has no chat template, so it was not made to chat"
            hint = "use a model whose name ends in Instruct or Chat, or HuggingFacePipeline for plain text"
            raise UnsupportedModelError(msg, hint=hint)
        if self.tokenizer is not None:
            refuse_other_tokenizer(self.tokenizer, self._generator)
        read_settings(self._generator, *self._layers)

    @classmethod
    def from_model_id(
        cls,
        model_id: str,
        task: str | None = None,
        backend: str = "pipeline",
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Loads a chat model by its name.

        Args:
            model_id: A folder, `org/name`, or `org/name@revision`.
            task: `text-generation`, or `image-text-to-text` for a model that reads images.
            backend: `pipeline`, or another backend of `HuggingFacePipeline`.
            **kwargs: Fields of this class; `device`, `device_map`, `model_kwargs`, `pipeline_kwargs` and `batch_size`
                of `HuggingFacePipeline`; and any other setting for generating.

        Raises:
            InputError: The backend is a remote one, or a setting is unknown.
        """
        if backend in _REMOTE_BACKENDS:
            msg = f"the backend {backend!r} is a server's, and this package runs models on this machine only"
            raise InputError(msg, hint='use backend="pipeline", or langchain_huggingface for a server')
        own = names_of_fields(cls) - {"model_kwargs"}
        of_pipeline = {name: kwargs[name] for name in _OF_THE_PIPELINE if name in kwargs}
        settings = {name: value for name, value in kwargs.items() if name not in own | {*_OF_THE_PIPELINE}}
        llm = HuggingFacePipeline.from_model_id(
            model_id,
            task=task or "text-generation",
            backend="default" if backend == "pipeline" else backend,
            pipeline_kwargs={**(settings.pop("pipeline_kwargs", None) or {}), **settings},
            **of_pipeline,
        )
        return cls(llm=llm, **{name: value for name, value in kwargs.items() if name in own})

    @property
    def _generator(self) -> Generator:
        return self.llm.generator

    @property
    def _reply_format(self) -> ReplyFormat:
        return format_for(self._generator.model_type, self._generator.chat_template)

    @property
    def _layers(self) -> tuple[Mapping[str, Any], ...]:
        """Settings for generating, the later over the earlier."""
        return self.llm.pipeline_kwargs or {}, self.model_kwargs, {name: getattr(self, name) for name in _SETTINGS}

    @property
    def _llm_type(self) -> str:
        return "huggingface-chat-wrapper"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        settings = {name: getattr(self, name) for name in _SETTINGS if name != "stop"}
        return {
            "model_id": self.model_id,
            "llm": dict(self.llm._identifying_params),  # noqa: SLF001 - as every wrapper in LangChain
            **settings,
            "stop_sequences": self.stop,  # LangChain puts the stop of the call under `stop`
            "model_kwargs": self.model_kwargs,
            "chat_template_kwargs": self.chat_template_kwargs,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:  # noqa: ANN401
        named = {**(self.llm.pipeline_kwargs or {}), **self.model_kwargs}
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "huggingface"
        params["ls_model_name"] = str(kwargs.get("model") or self.model_id)
        if (temperature := named.get("temperature")) is not None:
            params.setdefault("ls_temperature", temperature)
        if (max_tokens := kwargs.get("max_new_tokens", named.get("max_new_tokens"))) is not None:
            params.setdefault("ls_max_tokens", max_tokens)
        own = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if stops := [*own, *(stop or [])]:
            params["ls_stop"] = stops
        return params

    def _resolve_model_profile(self) -> ModelProfile:
        template, reply_format = self._generator.chat_template or "", self._reply_format
        profile = ModelProfile(
            text_inputs=True,
            image_inputs=self._generator.reads_images,
            image_url_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            pdf_inputs=False,
            text_outputs=True,
            reasoning_output=reply_format.reasoning[0] in template or "reasoning_content" in template,
            tool_calling="tools" in template,
            structured_output=True,
        )
        if self._generator.context_window is not None:
            profile["max_input_tokens"] = self._generator.context_window
        return profile

    def _turn(self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, call: dict[str, Any]) -> Turn:
        if call.get("model") not in (None, self.model_id):
            msg = f"this object chats with {self.model_id}, not with {call['model']}"
            raise InputError(msg, hint="make a ChatHuggingFace of the other model")
        return Turn.prepare(
            self._generator,
            messages,
            {name: value for name, value in call.items() if name not in _OF_LANGCHAIN},
            layers=(*self._layers, {"stop": stop}),
            template_variables=self.chat_template_kwargs,
        )

    def get_token_ids(self, text: str) -> list[int]:
        """The tokens of a text, by the model's own tokenizer, without special ones."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self._generator.token_ids(text)

    def get_num_tokens_from_messages(
        self,
        messages: list[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    ) -> int:
        """How many tokens the prompt for an answer to these messages has; their texts alone if it cannot be made."""
        if not messages:
            return 0
        count = count_tokens(self._generator, messages, as_functions(tools or ()), self.chat_template_kwargs)
        return super().get_num_tokens_from_messages(messages) if count is None else count

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """A chat model that may call tools.

        Args:
            tools: Functions, classes, tools of LangChain, or descriptions in OpenAI's form.
            tool_choice: None or `auto` leave the choice to the model; `any`, `required` or True demand a call; a name
                demands a call of this tool; `none` forbids calls. A call that is demanded is made, whatever the model,
                and its arguments follow their schema.
            strict: False lets the arguments be any JSON object.
            parallel_tool_calls: False for one call at most.
            **kwargs: What else to bind.

        Raises:
            InputError: A tool cannot be described to a model, or `tool_choice` names none of them.
        """
        # One by one: LangChain's own tests bind two of one name, which are refused only where they are used.
        functions = [function for tool in tools for function in as_functions([tool])]
        tool_constraint(self._reply_format, functions, tool_choice, strict=strict)  # what it refuses is refused now
        said = {"tool_choice": tool_choice, "strict": strict, "parallel_tool_calls": parallel_tool_calls}
        kwargs.update({name: value for name, value in said.items() if value is not None})
        return self.bind(tools=functions, **kwargs)

    def with_structured_output(  # type: ignore[override] # with the arguments that all chat models have by now
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """A chat model whose answers follow a schema, whatever the model.

        Args:
            schema: A Pydantic class, a TypedDict, a JSON schema, or a function in OpenAI's form.
            method: `json_schema` writes JSON under the constraint of the schema. `function_calling` makes the schema a
                tool that has to be called, so that the model reads it first. `json_mode` is as `json_schema`, and
                takes any JSON object if there is no schema.
            include_raw: Whether to give a dictionary of `raw`, `parsed` and `parsing_error`.
            strict: Whether optional fields have to be there too.

        Raises:
            InputError: There is no such method, or this is no schema.
        """
        return structured(self, schema, method=method, include_raw=include_raw, strict=strict)
