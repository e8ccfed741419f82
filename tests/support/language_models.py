"""Tiny, seeded language models of the families that people use; built once a run, shared by tests that read them."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

try:  # newer versions have two, and this one needs no torchvision
    from transformers import CLIPImageProcessorPil as _ImageProcessor
except ImportError:
    from transformers import CLIPImageProcessor as _ImageProcessor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONTEXT = 512
FAMILIES = ("gpt2", "llama", "qwen2", "t5")

_CORPUS = [
    "The quick brown fox jumps over the lazy dog while the ships sail out of the harbour at dawn.",
    "What is the weather in Paris today? It is sunny, 21 degrees, with a light wind from the west.",
    '{"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}}',
    "Größe, naïve, 東京, Привет, 😀 and other text that is not plain ASCII.",
]
# The form that Qwen and many others use; the words are ours.
CHAT_TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- 'Functions that you may call:' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\nCall one with <tool_call>{"name": ..., "arguments": {...}}</tool_call>.<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'system' and loop.first %}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
VISION_CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- for part in message.content %}
{%- if part.type == 'image' %}{{- '<image>' }}{%- else %}{{- part.text }}{%- endif %}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


@cache
def tokenizer(*, end_of_text: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer, so that every text can be written; with `end_of_text`, it ends each text as T5's does."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS * 4, trainer)
    backend.add_tokens([AddedToken(marker) for marker in ("<tool_call>", "</tool_call>", "<think>", "</think>")])
    if end_of_text:
        backend.post_processor = processors.TemplateProcessing(
            single="$A <|endoftext|>", pair=None, special_tokens=[("<|endoftext|>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",  # noqa: S106 - a token of the vocabulary
        pad_token="<pad>" if end_of_text else None,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _model(family: str) -> PreTrainedModel:
    words = len(tokenizer())
    shared: dict[str, Any] = {"vocab_size": words, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.4}
    llama: dict[str, Any] = shared | {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
    }
    if family == "mistral":
        return MistralForCausalLM(MistralConfig(sliding_window=8, **llama))
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, **shared))
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**llama))
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **llama))
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=words,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            initializer_factor=2.0,
            eos_token_id=0,
            pad_token_id=tokenizer(end_of_text=True).pad_token_id,
            decoder_start_token_id=tokenizer(end_of_text=True).pad_token_id,
            tie_word_embeddings=False,
        )
    )


@cache
def folder(family: str) -> Path:
    """The folder of a tiny model of `family`, one of `FAMILIES` or `mistral`; not to be written to.

    All but T5 look at `CONTEXT` tokens (mistral at the last 8 in each layer), write any UTF-8 text, and hardly ever
    end by themselves. llama and qwen2 have a chat template.
    """
    path = Path(mkdtemp(prefix="localhf-tests-")) / family
    torch.manual_seed(0)
    model = _model(family)
    model.save_pretrained(path)
    words = tokenizer(end_of_text=family == "t5")
    words.save_pretrained(path)
    if family in {"llama", "qwen2"}:
        (path / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return path


@cache
def vision_folder() -> Path:
    """The folder of a tiny vision-language model that chats; not to be written to."""
    path = Path(mkdtemp(prefix="localhf-tests-")) / "llava"
    words = PreTrainedTokenizerFast.from_pretrained(folder("llama"))
    words.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<image>"]})
    torch.manual_seed(0)
    text = LlamaConfig.from_pretrained(folder("llama"), vocab_size=len(words))
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=8
    )
    place = words.convert_tokens_to_ids("<image>")
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_id=place))
    model.save_pretrained(path)
    processor = LlavaProcessor(
        image_processor=_ImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer=words,
        patch_size=8,
        vision_feature_select_strategy="default",
        image_token="<image>",  # noqa: S106 - a token of the vocabulary
        num_additional_image_tokens=1,
    )
    processor.chat_template = VISION_CHAT_TEMPLATE
    processor.save_pretrained(path)
    return path


def copy(family: str, target: Path) -> Path:
    """A copy of the tiny model that may be changed."""
    return shutil.copytree(folder(family), target)
