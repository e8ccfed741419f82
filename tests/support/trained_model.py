"""A tiny chat model that is taught a few dialogues by heart, those of LangChain's standard tests; trained once a run.

What the tests ask and which tools they bind is in `langchain_tests`. The prompts are written by transformers and
LangChain alone, so that the model only knows the answers if this package writes its prompts as they do.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import torch
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_tests.integration_tests.chat_models import magic_function, magic_function_no_args, unicode_customer
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from support import language_models

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool
    from transformers import PreTrainedTokenizerFast

CONTEXT = 1024

_Messages = list[dict[str, Any]]

_END = "<|im_end|>"
_MAX_STEPS = 600
# How sure the model has to be of every token that it was taught.
_CERTAIN = 0.95
_IGNORED = -100  # the label of a token that costs nothing, in PyTorch


@tool
def get_weather(location: str) -> str:
    """Get the weather at a location."""
    return "It's sunny."


def _call(name: str, **arguments: Any) -> str:
    """A call of a tool as models of Qwen's and Hermes' kind write it."""
    written = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{written}\n</tool_call>"


def _asked(question: str) -> _Messages:
    return [{"role": "user", "content": question}]


def _dialogues() -> list[tuple[list[BaseTool], _Messages, str]]:
    """The tools, the messages up to now and the reply that is to be learned."""
    weather = "What is the weather in San Francisco, CA?"
    hello_group = "Create a customer named '你好啊集团' (Hello Group) - a Chinese technology company"
    hello_corporation = "Create a customer named 'こんにちは株式会社' (Hello Corporation) - a Japanese company"
    joke = json.dumps({"setup": "Why do cats sit on keyboards?", "punchline": "To keep an eye on the mouse."})
    called = {"name": "get_weather", "arguments": {"location": "San Francisco, CA"}}
    seen: _Messages = [
        *_asked(weather),
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": called}]},
        {"role": "tool", "content": get_weather.invoke({"location": ""})},
    ]
    return [
        (
            [magic_function],
            _asked("What is the value of magic_function(3)? Use the tool."),
            _call("magic_function", input=3),
        ),
        (
            [magic_function_no_args],
            _asked("What is the value of magic_function_no_args()? Use the tool."),
            _call("magic_function_no_args"),
        ),
        ([get_weather], _asked(weather), _call("get_weather", location="San Francisco, CA")),
        ([get_weather], seen, "It is sunny in San Francisco."),
        (
            [unicode_customer],
            _asked(hello_group),
            _call("unicode_customer", customer_name="你好啊集团", description="A Chinese technology company"),
        ),
        (
            [unicode_customer],
            _asked(hello_corporation),
            _call("unicode_customer", customer_name="こんにちは株式会社", description="A Japanese company"),
        ),
        ([], _asked("Hello"), "Hello! How can I help?"),
        ([], [*_asked("hello"), {"role": "assistant", "content": "hello"}, *_asked("how are you")], "Fine, thank you."),
        ([], _asked("Tell me a joke about cats."), joke),
    ]


def _texts(words: PreTrainedTokenizerFast) -> list[tuple[str, str]]:
    """The dialogues as prompt and reply, with the mark that ends it."""
    return [
        (
            words.apply_chat_template(
                messages,
                tools=[convert_to_openai_tool(one) for one in tools] or None,
                tokenize=False,
                add_generation_prompt=True,
            ),
            reply + _END,
        )
        for tools, messages, reply in _dialogues()
    ]


def _tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with words of these dialogues: the fewer tokens they have, the faster they are learned."""
    general = AutoTokenizer.from_pretrained(language_models.folder("qwen2"))
    words = general.train_new_from_iterator([prompt + reply for prompt, reply in _texts(general)], vocab_size=1000)
    words.add_tokens(["<tool_call>", "</tool_call>"])
    words.eos_token = _END
    words.model_max_length = CONTEXT
    return words


def _batch(words: PreTrainedTokenizerFast) -> dict[str, torch.Tensor]:
    """All dialogues, padded at their end; only replies have labels."""
    pairs = [[words(text, add_special_tokens=False)["input_ids"] for text in pair] for pair in _texts(words)]
    length = max(len(prompt) + len(reply) for prompt, reply in pairs)
    shape = (len(pairs), length)
    batch = {
        "input_ids": torch.zeros(shape, dtype=torch.long),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, _IGNORED),
    }
    for row, (prompt, reply) in enumerate(pairs):
        end = len(prompt) + len(reply)
        batch["input_ids"][row, :end] = torch.tensor(prompt + reply)
        batch["attention_mask"][row, :end] = 1
        batch["labels"][row, len(prompt) : end] = torch.tensor(reply)
    return batch


def _least_certain(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The probability of that token of the replies which the model would rather not write."""
    taught = labels[:, 1:] != _IGNORED
    probabilities = logits[:, :-1][taught].softmax(-1)
    return float(probabilities.gather(-1, labels[:, 1:][taught][:, None]).min())


def _learn(model: Qwen2ForCausalLM, batch: dict[str, torch.Tensor]) -> None:
    """Trains until every token of every reply is certain, so that greedy decoding writes them.

    Raises:
        RuntimeError: That takes too long.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    for _ in range(_MAX_STEPS):
        output = model(**batch)
        if _least_certain(output.logits.detach(), batch["labels"]) > _CERTAIN:
            return
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    message = f"the model has not learned its dialogues in {_MAX_STEPS} steps; the loss is {float(output.loss):.3g}"
    raise RuntimeError(message)


@cache
def folder() -> Path:
    """The folder of the model; not to be written to. It has a chat template and looks at `CONTEXT` tokens."""
    words = _tokenizer()
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(words),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            bos_token_id=None,
            eos_token_id=words.eos_token_id,
            pad_token_id=None,
        )
    )
    _learn(model, _batch(words))
    path = Path(mkdtemp(prefix="localhf-tests-")) / "trained"
    model.save_pretrained(path)
    words.save_pretrained(path)
    return path
