"""Probes of fastembed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastembed
from fastembed.rerank.cross_encoder import TextCrossEncoder
from probes_langchain import COSINE, closeness, cosine
from probing import NO, TEXT, YES, Finding, attempt, found_nothing, refused

if TYPE_CHECKING:
    from probing import Network

MINILM, E5 = "sentence-transformers/all-MiniLM-L6-v2", "intfloat/multilingual-e5-large"
ONNX = "[ONNXRuntimeError]"
NO_CHAT, NO_LLM = "no chat", "no language models"


class FastEmbed:
    """fastembed.

    Args:
        folders: Models and texts, by name.
        network: Counts who tries to leave this machine.
    """

    def __init__(self, folders: dict[str, str], network: Network) -> None:
        self.home, self.folders, self.network = Path(folders["home"]), folders, network

    def model(self, folder: str = "", name: str = MINILM, kind: Any = fastembed.TextEmbedding, **fields: Any) -> Any:  # noqa: ANN401 - of several classes
        """A model of its list, whose files lie in a folder of ours or where it keeps them."""
        place = {"specific_model_path": str(self.home / folder)} if folder else {}
        return kind(name, **place, **fields)

    def query(self, *names: str, **fields: Any) -> list[float]:  # noqa: ANN401 - of a class
        """The vector of a query."""
        return next(iter(self.model(*names, **fields).query_embed(TEXT))).tolist()  # type: ignore[no-any-return]

    def cached(self) -> Finding:
        """Embeds with a model that lies where it keeps what it downloaded."""
        vector, error, tries = self.network.watched(self.query)
        return (YES if vector and not tries else NO), f"{tries or 'no try to connect'}; {error or 'it embedded'}"

    def missing(self) -> Finding:
        """Asks for a model of its list that is not here, and for one that is not in the list."""
        _, error, tries = self.network.watched(lambda: self.query("", "BAAI/bge-small-en-v1.5"))
        _, unknown = attempt(lambda: self.query("", "org/missing"))
        seen = f"{tries or 'no try to connect'}; then {error}; a name that is not in the list: {unknown}"
        return ("no: tries to download" if tries else YES), seen

    def changed(self) -> Finding:
        """Embeds with a model of its cache of which a byte was changed, and then one cut off."""
        cache = self.home / "changed-graph"
        cell, seen = refused(lambda: self.query(cache_dir=str(cache)), "sees sizes only")
        (graph,) = cache.glob("*/snapshots/*/model.onnx")
        graph.write_bytes(graph.read_bytes()[:-1])
        cut = refused(lambda: self.query(cache_dir=str(cache), local_files_only=True), "loads it", by="ValueError")
        return (cell if cut[0] == YES else "no: loads it"), f"{seen}; with a byte less: {cut[1]}"

    def lockfile(self) -> Finding:
        """Looks for one."""
        return found_nothing("fastembed", "lock")

    def random(self) -> Finding:
        """Loads a graph of which a weight was left out."""
        return refused(lambda: self.query("onnx-lost"), "loads it", by=f"InvalidArgument: {ONNX}")

    def pickle(self) -> Finding:
        """Loads a model that has its weights as a pickle only."""
        return refused(lambda: self.query("onnx-pickle"), "loads it", by=f"NoSuchFile: {ONNX}")

    def pooling(self) -> Finding:
        """Adds a model to the list without saying how its tokens become one vector."""
        fields: dict[str, Any] = {"normalization": True, "sources": None, "dim": 32}
        return refused(lambda: fastembed.TextEmbedding.add_custom_model("org/new", **fields), "adds it", by="TypeError")

    def prompts(self) -> Finding:
        """Compares a query with the same text behind `query: `, with which the E5 models of its list were trained."""
        model = self.model("onnx", E5)
        (query,), (plain,), (prompted,) = (
            list(vectors) for vectors in (model.query_embed(TEXT), model.embed(TEXT), model.embed(f"query: {TEXT}"))
        )
        if cosine(query, prompted) > COSINE:
            return YES, "as with the prompt before it"
        return NO, f"{E5}: a query's vector is that of the bare text: {cosine(query, plain) > COSINE}"

    def vectors(self) -> Finding:
        """Embeds real text with the real all-MiniLM-L6-v2, as ONNX."""
        texts = json.loads(Path(self.folders["texts"]).read_text(encoding="utf-8"))
        return closeness([vector.tolist() for vector in self.model("onnx-minilm").embed(texts)], self.folders)

    def collection(self) -> Finding:
        """Looks for collections, and for what tells models apart."""
        return "no collections", found_nothing("fastembed", "collection", "fingerprint", "store")[1]

    def torchless(self) -> Finding:
        """Looks for torch in the environment in which everything here ran."""
        return (NO if find_spec("torch") else YES), f"torch is installed here: {find_spec('torch') is not None}"

    def own_code(self) -> Finding:
        """Asks for a model by its repository, as one with its own code would be."""
        listed = sum(one["model"].startswith("jinaai/") for one in fastembed.TextEmbedding.list_supported_models())
        cell, error = refused(lambda: self.query("", "org/own-code"), "loads it", by="ValueError")
        return (
            "those of its list, as ONNX" if listed and cell == YES else NO
        ), f"{listed} of jina's in the list; {error}"

    def stop(self) -> Finding:
        """Looks for language models."""
        return NO_LLM, found_nothing("fastembed", "llm", "generat", "chat")[1]

    def structured(self) -> Finding:
        """Looks for a chat."""
        return NO_CHAT, self.stop()[1]

    def awaited(self) -> Finding:
        """Looks for a chat."""
        return NO_CHAT, self.stop()[1]

    def rerank(self) -> Finding:
        """Scores two pairs."""
        model = self.model("onnx-pairs", "Xenova/ms-marco-MiniLM-L-6-v2", TextCrossEncoder)
        return YES, f"{len(list(model.rerank(TEXT, ['the harbour', 'tax filings'])))} scores for two pairs"

    def images(self) -> Finding:
        """Embeds a picture."""
        model = self.model("onnx-image", "Qdrant/clip-ViT-B-32-vision", fastembed.ImageEmbedding)
        (vector,) = model.embed([str(self.home / "picture.png")])
        return YES, f"a vector of {len(vector)} numbers"

    def server(self) -> Finding:
        """Looks for one."""
        return found_nothing("fastembed", "serve", "server", "app")

    def sparse(self) -> Finding:
        """Makes a sparse vector of a text, and one vector a token."""
        sparse = self.model("onnx-sparse", "prithivida/Splade_PP_en_v1", fastembed.SparseTextEmbedding)
        late = self.model("onnx-late", "colbert-ir/colbertv2.0", fastembed.LateInteractionTextEmbedding)
        (weights,), (tokens,) = list(sparse.embed(TEXT)), list(late.embed(TEXT))
        return "yes, both", f"{len(weights.indices)} weights; {len(tokens)} vectors of {len(tokens[0])} numbers"

    def hosted(self) -> Finding:
        """Looks for a class that asks Hugging Face's servers."""
        return found_nothing("fastembed", "endpoint", "inference", "hosted")

    def gpu(self) -> Finding:
        """Asks for a GPU where there is none."""
        _, error = attempt(lambda: self.query("onnx", cuda=True))
        return ("onnxruntime's" if not error or "CUDA" in error else NO), error or "embedded on the GPU that is here"
