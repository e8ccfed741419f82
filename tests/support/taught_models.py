"""Tiny chat models that are taught dialogues by heart in some seconds, so that what they say makes sense.

The prompts are written by transformers and LangChain alone, so that a model only knows the answers if this package
writes its prompts as they do.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from langchain_core.utils.function_calling import convert_to_openai_tool
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from support import language_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.tools import BaseTool
    from transformers import PreTrainedTokenizerFast

Messages = list[dict[str, Any]]

_END = "<|im_end|>"
_WEIGHT = 4
_MAX_STEPS = 600
# How sure the model has to be of every token that it was taught.
_CERTAIN = 0.95
_IGNORED = -100  # the label of a token that costs nothing, in PyTorch


class Dialogue(NamedTuple):
    """A conversation up to now, as chat templates take it, and the reply that is to be learned."""

    messages: Messages
    reply: str
    tools: Sequence[BaseTool] = ()


def asked(question: str) -> Messages:
    """A conversation that begins with this question."""
    return [{"role": "user", "content": question}]


def calling(name: str, **arguments: Any) -> dict[str, Any]:
    """The message in which a model has called a tool."""
    called = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": called}]}


def call(name: str, **arguments: Any) -> str:
    """A call of a tool as models of Qwen's and Hermes' kind write it."""
    written = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{written}\n</tool_call>"


def taught(dialogues: Sequence[Dialogue], context: int = 1024, vocabulary: int = 1000) -> Path:
    """The folder of a new model that gives these replies. It has a chat template.

    Args:
        dialogues: What it is to learn.
        context: How many tokens it looks at.
        vocabulary: How many words it has; long prompts are learned faster if they have few tokens.
    """
    words = _tokenizer(dialogues, vocabulary)
    words.model_max_length = context
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(words),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=context,
            bos_token_id=None,
            eos_token_id=words.eos_token_id,
            pad_token_id=None,
        )
    )
    _learn(model, _batch(words, dialogues))
    path = Path(mkdtemp(prefix="localhf-tests-")) / "taught"
    model.save_pretrained(path)
    words.save_pretrained(path)
    return path


def _texts(words: PreTrainedTokenizerFast, dialogues: Sequence[Dialogue]) -> list[tuple[str, str]]:
    """The dialogues as prompt and reply, with the mark that ends it."""
    return [
        (
            words.apply_chat_template(
                dialogue.messages,
                tools=[convert_to_openai_tool(one) for one in dialogue.tools] or None,
                tokenize=False,
                add_generation_prompt=True,
            ),
            dialogue.reply + _END,
        )
        for dialogue in dialogues
    ]


def _tokenizer(dialogues: Sequence[Dialogue], vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer with words of these dialogues; it can write every other text, too."""
    general = AutoTokenizer.from_pretrained(language_models.folder("qwen2"))
    # Replies count more, so that their words become tokens, and do so with every version of tokenizers.
    texts = [text for prompt, reply in _texts(general, dialogues) for text in (prompt, *[reply] * _WEIGHT)]
    words = general.train_new_from_iterator(texts, vocab_size=vocabulary, show_progress=False)
    words.add_tokens(["<tool_call>", "</tool_call>"])
    words.eos_token = _END
    return words


def _batch(words: PreTrainedTokenizerFast, dialogues: Sequence[Dialogue]) -> dict[str, torch.Tensor]:
    """All dialogues, padded at their end; only replies have labels."""
    texts = _texts(words, dialogues)
    pairs = [[words(text, add_special_tokens=False)["input_ids"] for text in pair] for pair in texts]
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


def _learn(model: Qwen2ForCausalLM, batch: dict[str, torch.Tensor]) -> None:
    """Trains until every token of every reply is certain, so that greedy decoding writes them.

    Raises:
        RuntimeError: That takes too long.
    """
    labels = batch.pop("labels")[:, 1:]
    taught, right = labels != _IGNORED, labels[labels != _IGNORED]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    for _ in range(_MAX_STEPS):
        # Only what comes before a token of a reply: the other tokens of long prompts would cost more than all the rest.
        logits = model.lm_head(model.model(**batch).last_hidden_state[:, :-1][taught])
        certain = logits.detach().softmax(-1).gather(-1, right[:, None])
        if certain.min() > _CERTAIN:
            return
        loss = torch.nn.functional.cross_entropy(logits, right)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    message = f"the model has not learned its dialogues in {_MAX_STEPS} steps; the loss is {float(loss):.3g}"
    raise RuntimeError(message)
