"""How families of chat models write their reasoning and their calls of tools: a table."""

# ruff: noqa: RUF001 - DeepSeek's marks are written with wide bars

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from langchain_localhf.chat_models.replies import MarkedReplyReader
from langchain_localhf.engines.generation.request import Tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_localhf.engines.generation.reply import ReplyReader

_THINK = ("<think>", "</think>")


@dataclass(frozen=True)
class ReplyFormat:
    r"""How one family writes.

    A call is read in whatever form it comes: a JSON object `{"name": ..., "arguments": ...}` (or `"parameters"`), a
    list of such, or `header` and then arguments. `begin` and `end` are the form that is demanded of the model, which
    has to be JSON, and is one of those that are read.

    Attributes:
        family: Its name, for messages.
        opens: Marks that begin a call.
        begin: What a call of `{name}` begins with, up to its arguments.
        end: What stands behind its arguments.
        close: The mark that ends a call; empty where the call ends with its JSON.
        section: What stands around all calls of a reply, beside the marks of each.
        trigger: The start of `begin` that is never ordinary text; empty where there is none, or where the family's
            own form is no JSON. What the model writes of its own accord is then only read.
        header: A regular expression for what stands before arguments; its group is the tool's name.
        argument: A regular expression for one argument; its groups are key and value. Empty if arguments are JSON.
        quote: What stands in place of `"` around texts; keys then have none.
        bare: Whether a reply may begin with a call without a mark.
        ignored: Marks that mean nothing where they stand alone.
        reasoning: What stands before and behind reasoning.
    """

    family: str
    opens: tuple[str, ...]
    begin: str
    end: str
    close: str = ""
    section: tuple[str, str] = ("", "")
    trigger: str = ""
    header: str = ""
    argument: str = ""
    quote: str = ""
    bare: bool = False
    ignored: tuple[str, ...] = ()
    reasoning: tuple[str, str] = _THINK

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that a reader needs to see, also where they are special tokens."""
        written = (self.section[0] + self.begin, self.end + self.section[1])
        marks = (*self.reasoning, *self.opens, self.close, self.quote, *self.ignored, *written)
        return tuple(dict.fromkeys(mark for mark in marks if mark))

    def tag(self, name: str, parameters: Mapping[str, Any], *, in_text: bool = False) -> Tag:
        """The form of a call of one tool.

        Args:
            name: The tool.
            parameters: The JSON schema of its arguments.
            in_text: Whether it stands in a text, of which the model has written the marks of the section itself;
                otherwise it is the whole reply.
        """
        before, behind = ("", "") if in_text else self.section
        # In JSON a name is part of a text; a header has it as it is, and a plain name is the same in both.
        written = json.dumps(name, ensure_ascii=False)[1:-1] if '"{name}"' in self.begin else name
        return Tag(
            begin=before + self.begin.replace("{name}", written),
            schema=parameters,
            end=self.end + behind,
            trigger=self.trigger,
        )

    def opens_reasoning(self, prompt: str) -> bool:
        """Whether the reply to this prompt begins inside reasoning, because the chat template has opened it."""
        return prompt.rstrip().endswith(self.reasoning[0].rstrip())

    def reader(self, *, prompt: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> ReplyReader:
        """Reads a reply as it comes.

        Args:
            prompt: The rendered chat; its end may have opened the reasoning.
            tools: The functions that were offered, in OpenAI's form.
        """
        return MarkedReplyReader(self, tools=tools, reasoning=self.opens_reasoning(prompt))


_HERMES = ReplyFormat(
    family="hermes",
    opens=("<tool_call>",),
    begin='<tool_call>\n{"name": "{name}", "arguments": ',
    end="}\n</tool_call>",
    close="</tool_call>",
    trigger="<tool_call>",
    header=r"<function=([^>\n]+)>",
    argument=r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>",
)
_QWEN_XML = replace(_HERMES, family="qwen3-coder", trigger="")
_GLM = replace(
    _HERMES,
    family="glm4",
    trigger="",
    header=r"([^\s<{]+)\s*",
    argument=r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>",
    ignored=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
)
_LLAMA = ReplyFormat(
    family="llama3",
    opens=("<|python_tag|>",),
    begin='{"name": "{name}", "parameters": ',
    end="}",
    bare=True,
    ignored=("<|python_start|>", "<|python_end|>"),
)
_MISTRAL_LIST = ReplyFormat(
    family="mistral",
    opens=("[TOOL_CALLS]",),
    begin='{"name": "{name}", "arguments": ',
    end="}",
    section=("[TOOL_CALLS][", "]"),
    header=r"([^\s\[]+)(?:\[CALL_ID\][^\[]*)?\[ARGS\]",
    ignored=("[CALL_ID]", "[ARGS]"),
)
_MISTRAL = replace(
    _MISTRAL_LIST,
    family="mistral-v11",
    begin="[TOOL_CALLS]{name}[ARGS]",
    end="",
    section=("", ""),
    trigger="[TOOL_CALLS]",
)
_PHI = ReplyFormat(
    family="phi4",
    opens=("<|tool_call|>",),
    begin='{"name": "{name}", "arguments": ',
    end="}",
    section=("<|tool_call|>[", "]<|/tool_call|>"),
    ignored=("<|/tool_call|>",),
)
_GRANITE = replace(_PHI, family="granite3", section=("<|tool_call|>[", "]"))
_DEEPSEEK = ReplyFormat(
    family="deepseek-v3.1",
    opens=("<｜tool▁call▁begin｜>",),
    begin="<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>",
    end="<｜tool▁call▁end｜>",
    close="<｜tool▁call▁end｜>",
    section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    trigger="<｜tool▁call▁begin｜>",
    header=r"(?:function<｜tool▁sep｜>)?([^\s<`{]+?)(?:<｜tool▁sep｜>|\s*```(?:json)?\s*|\s*(?=\{))",
    ignored=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
)
_DEEPSEEK_FENCED = replace(
    _DEEPSEEK,
    family="deepseek-v3",
    begin="<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n",
    end="\n```<｜tool▁call▁end｜>",
)
_KIMI = ReplyFormat(
    family="kimi-k2",
    opens=("<|tool_call_begin|>",),
    begin="<|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>",
    end="<|tool_call_end|>",
    close="<|tool_call_end|>",
    section=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    header=r"\s*(?:functions\.)?([^\s:<]+)(?::\d+)?\s*<\|tool_call_argument_begin\|>",
    ignored=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
)
_GEMMA4 = ReplyFormat(
    family="gemma4",
    opens=("<|tool_call>",),
    begin="<|tool_call>call:{name}",
    end="<tool_call|>",
    close="<tool_call|>",
    header=r"call:([^\s{]+)",
    quote='<|"|>',
    reasoning=("<|channel>thought\n", "<channel|>"),
)
_FUNCTION_GEMMA = ReplyFormat(
    family="functiongemma",
    opens=("<start_function_call>",),
    begin="<start_function_call>call:{name}",
    end="<end_function_call>",
    close="<end_function_call>",
    header=r"call:([^\s{]+)",
    quote="<escape>",
)
_GPT_OSS = ReplyFormat(
    family="gpt-oss",
    opens=("<|channel|>commentary to=functions.", "<|start|>assistant to=functions."),
    begin="<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>",
    end="<|call|>",
    close="<|call|>",
    header=r"([^\s<]+)[^{]*",
    ignored=("<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>", "<|end|>"),
    reasoning=("<|channel|>analysis<|message|>", "<|end|>"),
)

# A family's texts in a chat template, all of them, and the architectures whose every model is of it. The first family
# that fits is taken, so the more telling texts come first.
_FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...], ReplyFormat], ...] = (
    (("<|channel|>", "<|call|>"), ("gpt_oss",), _GPT_OSS),
    (("<|tool_call>",), ("gemma4", "gemma4_text"), _GEMMA4),
    (("<start_function_call>",), (), _FUNCTION_GEMMA),
    (("<｜tool▁call▁begin｜>", "```json"), (), _DEEPSEEK_FENCED),
    (("<｜tool▁call▁begin｜>",), ("deepseek_v3",), _DEEPSEEK),
    (("<|tool_call_begin|>",), ("kimi_k2",), _KIMI),
    (("[TOOL_CALLS]", "[ARGS]"), ("mistral3", "ministral3"), _MISTRAL),
    (("[TOOL_CALLS]",), (), _MISTRAL_LIST),
    (("<|tool|>",), ("phi4_multimodal",), _PHI),
    (("<|tool_call|>",), (), _GRANITE),
    (("<arg_key>",), ("glm4_moe",), _GLM),
    (("<function=", "<parameter="), ("qwen3_5", "qwen3_5_moe"), _QWEN_XML),
    (("<tool_call>",), (), _HERMES),
    (("<|python_tag|>",), (), _LLAMA),
    (('"parameters": dictionary',), ("llama4",), _LLAMA),
)
# Other marks of reasoning, where the chat template mentions them.
_REASONING = (
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)


def format_for(model_type: str, chat_template: str | None) -> ReplyFormat:
    """How a model writes its replies.

    Args:
        model_type: The architecture, in the checkpoint's own word.
        chat_template: The source of its chat template, whose own words decide before the architecture does.

    Returns:
        The format of its family. That of Hermes and Qwen, if the family is not known: a model that was told of tools
        by a template of any kind has most often seen that one.
    """
    template = chat_template or ""
    found = next((form for texts, _, form in _FAMILIES if all(text in template for text in texts)), None)
    if found is None:
        found = next((form for _, architectures, form in _FAMILIES if model_type in architectures), _HERMES)
    if found.reasoning == _THINK:
        found = replace(found, reasoning=next((pair for pair in _REASONING if pair[0] in template), _THINK))
    return found
