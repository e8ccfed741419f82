"""A tiny language model as one GGUF file, written byte by byte: the tool that writes them needs the network."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from support import language_models

_ALIGNMENT = 32
_UINT32, _FLOAT32, _STRING, _ARRAY, _INT32 = 4, 6, 8, 9, 5
_F16, _F32 = 1, 0
_NORMAL, _CONTROL, _ADDED = 1, 3, 4
# What the parts of a qwen2 model are called.
_PARTS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@cache
def file() -> Path:
    """The tiny qwen2 model with a chat template; not to be written to."""
    folder = language_models.folder("qwen2")
    path = Path(mkdtemp(prefix="localhf-tests-")) / "tiny-qwen2.gguf"
    tensors = {_name(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    path.write_bytes(_gguf(_metadata(folder), tensors))
    return path


def _name(name: str) -> str:
    if name in _PARTS:
        return _PARTS[name]
    _, _, number, *part, kind = name.split(".")
    return f"blk.{number}.{_PARTS['.'.join(part)]}.{kind}"


def _metadata(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    kinds = {token["content"]: _CONTROL if token["special"] else _ADDED for token in tokenizer["added_tokens"]}
    words = sorted(ids, key=ids.__getitem__)
    return {
        "general.architecture": "qwen2",
        "general.name": "tiny",
        "general.file_type": _F16,
        "qwen2.block_count": config["num_hidden_layers"],
        "qwen2.context_length": config["max_position_embeddings"],
        "qwen2.embedding_length": config["hidden_size"],
        "qwen2.feed_forward_length": config["intermediate_size"],
        "qwen2.attention.head_count": config["num_attention_heads"],
        "qwen2.attention.head_count_kv": config["num_key_value_heads"],
        "qwen2.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "qwen2.rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [kinds.get(word, _NORMAL) for word in words],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.padding_token_id": ids["<pad>"],
        "tokenizer.chat_template": language_models.CHAT_TEMPLATE,
    }


def _gguf(metadata: dict[str, Any], tensors: dict[str, np.ndarray[Any, Any]]) -> bytes:
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for name, value in metadata.items():
        header += _text(name) + _value(value)
    body = b""
    for name, tensor in tensors.items():
        # Vectors stay exact, as they do in files of others.
        kind = _F32 if tensor.ndim == 1 else _F16
        stored = tensor.astype(np.float32 if kind == _F32 else np.float16)
        header += _text(name) + struct.pack("<I", tensor.ndim)
        header += struct.pack(f"<{tensor.ndim}Q", *reversed(tensor.shape)) + struct.pack("<IQ", kind, len(body))
        body += stored.tobytes()
        body += bytes(-len(body) % _ALIGNMENT)
    return header + bytes(-len(header) % _ALIGNMENT) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_text, value))
    return struct.pack("<IIQ", _ARRAY, _INT32, len(value)) + struct.pack(f"<{len(value)}i", *value)
