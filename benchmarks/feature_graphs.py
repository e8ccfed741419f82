"""The models of the comparison for fastembed, which reads ONNX; made from the same weights as the others."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prepare import minilm, onnx

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where fastembed gets the model that it lists under the name of all-MiniLM-L6-v2.
LISTED_FROM = "models--Qdrant--all-MiniLM-L6-v2-onnx"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_TEXT, _TOKENS, _MINILM_TOKENS, _IMAGE = ["input_ids", "attention_mask"], 64, 256, 224


def graphs(home: Path, folders: dict[str, str]) -> None:
    """Everything, as folders in `home`."""
    plain = Path(folders["plain"])
    _add_special_tokens(plain)
    _add_special_tokens(Path(folders["cross_encoder"]))
    onnx(minilm(), home / "onnx-minilm", _MINILM_TOKENS)
    onnx(plain, home / "onnx", _TOKENS)
    _text_graphs(home, plain, folders["cross_encoder"])
    _image_graph(home / "onnx-image")
    _without_weight(home / "onnx", home / "onnx-lost")
    _cache(home / "onnx", home / "fastembed" / "fastembed_cache")
    _cache(home / "onnx", home / "changed-graph", changed=True)
    (home / "onnx-pickle").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(home / "onnx" / name, home / "onnx-pickle")
    shutil.copy(Path(folders["pickle"]) / "pytorch_model.bin", home / "onnx-pickle")


def _add_special_tokens(folder: Path) -> None:
    """Writes them as tokenizers did until recently, and as fastembed reads them."""
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    special = {name: token for name, token in settings.items() if name.endswith("_token") and token}
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")


def _text_graphs(home: Path, plain: Path, cross_encoder: str) -> None:
    """A model with a sparse vector a text, one with a vector a token, and one with a score a pair."""
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification  # noqa: PLC0415 - slow

    masked = AutoModelForMaskedLM.from_pretrained(plain)  # its head is random, and makes sparse vectors all the same
    classifier = AutoModelForSequenceClassification.from_pretrained(cross_encoder)
    _export(masked, "logits", _TEXT, plain, home / "onnx-sparse")
    _export(AutoModel.from_pretrained(plain), "last_hidden_state", _TEXT, plain, home / "onnx-late")
    _export(classifier, "logits", [*_TEXT, "token_type_ids"], Path(cross_encoder), home / "onnx-pairs")


def _export(model: Any, output: str, inputs: Sequence[str], tokenizer: Path, folder: Path) -> None:  # noqa: ANN401 - torch's
    """A model of texts as ONNX, with its tokenizer, at both places where fastembed's list may have it."""
    import torch  # noqa: PLC0415 - slow to import

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.eval()

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return getattr(self.model(**dict(zip(inputs, tensors, strict=True))), output)

    shutil.copytree(tokenizer, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    _write(Graph(), [torch.ones(2, 8, dtype=torch.long) for _ in inputs], inputs, folder)


def _write(graph: Any, examples: Sequence[Any], inputs: Sequence[str], folder: Path) -> None:  # noqa: ANN401 - torch's
    import torch  # noqa: PLC0415 - slow to import

    (folder / "onnx").mkdir(parents=True)
    axes = {name: {0: "batch", 1: "tokens"} for name in inputs} | {"output": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            tuple(examples),
            str(folder / "model.onnx"),
            input_names=list(inputs),
            output_names=["output"],
            dynamic_axes=axes,
            dynamo=False,
        )
    shutil.copy(folder / "model.onnx", folder / "onnx" / "model.onnx")


def _image_graph(folder: Path) -> None:
    """A vector for an image: the means of its colours, in a graph that takes what CLIP's takes."""
    import torch  # noqa: PLC0415 - slow to import

    class Colours(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(2, 3))

    folder.mkdir()
    size = {"height": _IMAGE, "width": _IMAGE}
    images = {"do_resize": True, "size": {"shortest_edge": _IMAGE}, "do_center_crop": True, "crop_size": size}
    images |= {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_rescale": True}
    images |= {"image_processor_type": "CLIPImageProcessor", "resample": 3, "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    _write(Colours(), [torch.ones(2, 3, _IMAGE, _IMAGE)], ["pixel_values"], folder)


def _without_weight(source: Path, folder: Path) -> None:
    """The same graph, of which one weight is gone."""
    import onnx as graphs_of  # noqa: PLC0415 - only who makes these needs it

    shutil.copytree(source, folder)
    model = graphs_of.load(str(folder / "model.onnx"))
    largest = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    model.graph.initializer.remove(largest)
    graphs_of.save(model, str(folder / "model.onnx"))


def _cache(source: Path, cache: Path, *, changed: bool = False) -> None:
    """The graph where fastembed keeps what it downloaded, with the sizes that it notes; perhaps a byte is changed."""
    home = cache / LISTED_FROM
    snapshot = home / "snapshots" / COMMIT
    shutil.copytree(source, snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT, encoding="ascii")
    sizes = {
        path.relative_to(home).as_posix(): {"size": path.stat().st_size, "blob_id": "0" * 40}
        for path in snapshot.iterdir()
    }
    (home / "files_metadata.json").write_text(json.dumps(sizes), encoding="utf-8")
    if changed:
        path = snapshot / "model.onnx"
        content = bytearray(path.read_bytes())
        place = len(content) // 2  # in the middle of the weights
        content[place] ^= 0x01
        path.write_bytes(content)
