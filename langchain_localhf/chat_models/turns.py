"""One turn of a conversation: from messages and settings to requests for the next message."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_localhf.chat_models.formats import format_for
from langchain_localhf.chat_models.messages import simpler_conversations, template_messages
from langchain_localhf.chat_models.structured import answer_schema
from langchain_localhf.chat_models.tools import as_functions, tool_constraint
from langchain_localhf.engines.generation.request import Constraint, Tag
from langchain_localhf.engines.generation.settings import Settings
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage

    from langchain_localhf.chat_models.formats import ReplyFormat
    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.reply import ReplyReader
    from langchain_localhf.engines.generation.request import Request

# What a call may say that is no setting for generating.
_OF_A_CALL = ("tools", "tool_choice", "strict", "parallel_tool_calls", "response_format", "chat_template_kwargs")
# Settings of OpenAI's that an engine may have no like of, and what comes close.
_FOREIGN = {
    "presence_penalty": "use repetition_penalty",
    "frequency_penalty": "use repetition_penalty",
    "logit_bias": 'use sequence_bias, with backend="torch"',
}


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        requests: One for each answer that is wanted.
        readers: What reads each of them.
        one_call: Whether an answer may hold one call of a function at most.
    """

    requests: tuple[Request, ...]
    readers: tuple[ReplyReader, ...]
    one_call: bool

    @classmethod
    def prepare(
        cls,
        generator: Generator,
        messages: Sequence[BaseMessage],
        call: Mapping[str, Any],
        *,
        layers: Sequence[Mapping[str, Any]] = (),
        template_variables: Mapping[str, Any] | None = None,
    ) -> Turn:
        """Prepares a turn.

        Args:
            generator: What will answer.
            messages: The conversation up to now.
            call: What was said with this call: settings for generating and the rest of `_OF_A_CALL`.
            layers: Settings for generating that the call's own are put over.
            template_variables: What the chat template gets beside messages and functions.

        Raises:
            InputError: A setting, a tool or a message cannot be used, or the prompt leaves no room for an answer.
            NetworkRefusedError: A message names an image by its address in a network.
            UnsupportedModelError: The model cannot chat, or reads no images and there are some.
        """
        variables = {**(template_variables or {}), **(call.get("chat_template_kwargs") or {})}
        own = {name: value for name, value in call.items() if name not in _OF_A_CALL}
        settings = read_settings(generator, *layers, own)
        functions = () if call.get("tool_choice") == "none" else tuple(as_functions(call.get("tools") or ()))
        written, images = template_messages(messages, reads_images=generator.reads_images)
        rendered = _rendered(generator, written, functions, variables)
        prompt = generator.read_prompt(rendered, images=images, special_tokens=False)
        reply_format = format_for(generator.model_type, variables.get("chat_template") or generator.chat_template)
        constraint = _constraint(call, functions, reply_format, rendered)
        if constraint is not None and constraint.free_text and generator.reply_reader(rendered) is not None:
            constraint = None  # the tokenizer says in which form calls stand in a text, and the table might not agree
        # A form that is demanded is one of the table's.
        by_table = constraint is not None and bool(functions)
        readers = [_reader(generator, reply_format, rendered, functions, by_table=by_table) for _ in range(settings.n)]
        requests = [
            settings.request(generator, prompt, sample=sample, constraint=constraint, markers=readers[0].markers)
            for sample in range(settings.n)
        ]
        return cls(tuple(requests), tuple(readers), one_call=call.get("parallel_tool_calls") is False)


def _reader(
    generator: Generator,
    reply_format: ReplyFormat,
    rendered: str,
    functions: Sequence[Mapping[str, Any]],
    *,
    by_table: bool,
) -> ReplyReader:
    """What reads a reply: by the tokenizer's own description, where it has one and it applies."""
    own = None if by_table else generator.reply_reader(rendered, tools=functions)
    return own or reply_format.reader(prompt=rendered, tools=functions)


def count_tokens(
    generator: Generator,
    messages: Sequence[BaseMessage],
    functions: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any],
) -> int | None:
    """How many tokens the prompt for the next message has; None if the template refuses the conversation.

    A part of a conversation, as trimming makes them, is counted behind an empty message if it needs one.
    """
    written, images = template_messages(messages, reads_images=generator.reads_images)
    nothing = {"role": "user", "content": [] if generator.reads_images else ""}
    for conversation in (written, [nothing, *written]):
        with suppress(InputError):
            rendered = _rendered(generator, conversation, functions, variables)
            return len(generator.read_prompt(rendered, images=images, special_tokens=False).token_ids)
    return None


def _rendered(
    generator: Generator,
    written: Sequence[Mapping[str, Any]],
    functions: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any],
) -> str:
    """The conversation as the template writes it, which gets it in simpler forms where it refuses it as it is.

    Raises:
        InputError: The template refuses every form; the message is about the first.
        UnsupportedModelError: The model has no chat template.
    """
    try:
        return generator.render_chat(written, tools=functions, variables=variables)
    except InputError:
        for simpler in simpler_conversations([dict(message) for message in written]):
            try:
                return generator.render_chat(simpler, tools=functions, variables=variables)
            except InputError:
                continue
        raise


def _constraint(
    call: Mapping[str, Any], functions: Sequence[dict[str, Any]], reply_format: ReplyFormat, rendered: str
) -> Constraint | None:
    """What the answer has to look like: a call of a function, what `response_format` says, or one of both."""
    after = reply_format.reasoning[1] if reply_format.opens_reasoning(rendered) else ""
    schema, choice, strict = answer_schema(call.get("response_format")), call.get("tool_choice"), call.get("strict")
    calls = tool_constraint(reply_format, functions, choice, strict=strict, after=after) if functions else None
    if schema is None or (calls is not None and not calls.free_text):
        return calls
    # The answer is JSON, so that a call cannot stand in a text: it is the whole reply, or there is none.
    instead = tool_constraint(reply_format, functions, "any", strict=strict) if functions else None
    return Constraint((*(instead.tags if instead else ()), Tag(begin="", schema=schema)), after=after)


def read_settings(generator: Generator, *layers: Mapping[str, Any]) -> Settings:
    """Settings for generating, as `Settings.read` reads them.

    Raises:
        InputError: A name is unknown, or one of OpenAI's that no local model has, or a value cannot be right.
    """
    foreign = {name: hint for name, hint in _FOREIGN.items() if name not in generator.options}
    return Settings.read(generator, *(_without(foreign, layer) for layer in layers))


def _without(foreign: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that only others have, which are refused unless they change nothing."""
    for name, hint in foreign.items():
        if settings.get(name):
            raise InputError(f"{name} is no setting of this model's engine", hint=hint)
    return {name: value for name, value in settings.items() if name not in foreign}
