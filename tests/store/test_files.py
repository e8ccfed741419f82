"""Which files a model needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from langchain_localhf.store import files

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = [
    "1_Pooling/config.json",
    "2_Dense/model.safetensors",
    "README.md",
    "LICENSE",
    "config.json",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "modules.json",
    "sentencepiece.bpe.model",
    "tokenizer.json",
    "vocab.txt",
]
NOT_NEEDED = [
    ".gitattributes",
    ".cache/config.json",
    "checkpoint-500/model.safetensors",
    "data_config.json",
    "eval/similarity_evaluation_results.csv",
    "flax_model.msgpack",
    "localhf.json",
    "model.fp16.safetensors",
    "modeling.py",
    "onnx/model.onnx",
    "onnx/config.json",
    "openvino/openvino_model.bin",
    "pytorch_model.bin",
    "rust_model.ot",
    "tf_model.h5",
    "trainer_state.json",
    "training_args.bin",
]


def test_needed_files() -> None:
    """Descriptions, tokenizer and safetensors weights; no pickle, no code, nothing for other runtimes."""
    assert files.needed([*NOT_NEEDED, *NEEDED]) == sorted(NEEDED)


def test_files_that_shape_vectors_leave_documents_out() -> None:
    """A model card or a licence changes no vector."""
    assert files.shape_vectors(NEEDED) == sorted({*NEEDED} - {"README.md", "LICENSE"})


@pytest.mark.parametrize(
    ("paths", "pickled"),
    [
        (["pytorch_model.bin", "model.safetensors"], []),
        (["pytorch_model-00001-of-00002.bin", "config.json"], ["pytorch_model-00001-of-00002.bin"]),
        (["model.safetensors", "2_Dense/pytorch_model.bin"], ["2_Dense/pytorch_model.bin"]),
        (["model.safetensors", "training_args.bin", "openvino/openvino_model.bin", "checkpoint-1/optimizer.pt"], []),
        (["training_args.bin", "rng_state_0.pth"], []),
    ],
)
def test_pickle_counts_where_no_safetensors_file_replaces_it(paths: list[str], pickled: list[str]) -> None:
    """Each folder is on its own; what training left behind is never read."""
    assert files.pickled_only(paths) == pickled


def test_files_in_a_folder(tmp_path: Path) -> None:
    """Sorted POSIX paths, without hidden folders, caches and dangling links."""
    for path in ("b.json", "a/c.json", ".git/HEAD", "__pycache__/x.pyc"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere")
    assert files.files_in(tmp_path) == ["a/c.json", "b.json"]
