"""Probes of this package: those of langchain-huggingface, and what there is besides."""

from __future__ import annotations

import time
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_folders import WEIGHTS, change_byte
from probes_langchain import COSINE, SETTINGS, HuggingFace, cosine
from probing import NO, TEXT, YES, Finding, found_nothing, refused, without_torch

if TYPE_CHECKING:
    from collections.abc import Callable

COMPILED = "org/compiled"
_EMBED = """
from langchain_localhf import HuggingFaceEmbeddings
print(len(HuggingFaceEmbeddings(model_name=sys.argv[1]).embed_query("a ship")), "numbers")
"""


class LocalHF(HuggingFace):
    """langchain-localhf."""

    package = "langchain_localhf"
    embeddings_module = "langchain_localhf"

    @cached_property
    def llm(self) -> Any:  # noqa: ANN401 - a class of this package
        """A language model with random weights."""
        pipeline = import_module(self.package).HuggingFacePipeline
        return pipeline.from_model_id(self.folders["lm"], "text-generation", pipeline_kwargs=SETTINGS)

    def missing(self) -> Finding:
        """Asks for a model that is nowhere."""
        cell, seen = super().missing()
        return (cell, seen) if "ModelNotFoundError" in seen else (NO, seen)

    def changed(self) -> Finding:
        """Embeds with a model of which one byte was changed: in the store, and in the hub's cache."""
        cell, error = refused(lambda: self.query("org/changed"), "loads it", by="IntegrityError")
        cached, seen = refused(super()._changed, "loads it", by="IntegrityError")
        if cached == YES:
            return cell, f"{error}; in the hub's cache: {seen}"
        return f"{cell}, in its store; not in the hub's cache", f"{error}; in the hub's cache: {seen}"

    def lockfile(self) -> Finding:
        """Locks the models of the store, and changes a byte of one; the lockfile notices it."""
        provisioning = import_module("langchain_localhf.provisioning")
        path = Path(self.folders["home"]) / "localhf.lock"
        locked = [model.name for model in provisioning.lock(path)]
        here = lambda: self._cli("pull", "--locked", "--lock", str(path), "org/locked")  # noqa: E731
        before = here()
        change_byte(provisioning.show("org/locked").folder / WEIGHTS)
        after = here()
        seen = f"locked {', '.join(locked)}; `pull --locked` says: {before[1]}; with one byte changed: {after[1]}"
        return (YES if (before[0], after[0] != 0) == (0, True) else NO), seen

    def _cli(self, *words: str) -> tuple[int, str]:
        """The exit status of a command, and the line that says how it went."""
        from click.testing import CliRunner  # noqa: PLC0415 - only here

        done = CliRunner().invoke(import_module("langchain_localhf.cli").main, words)
        return done.exit_code, next(iter(done.output.splitlines()), "")

    def random(self) -> Finding:
        """Loads a model of which a weight was left out."""
        return refused(lambda: self.query("lost"), "loads it", by="UninitializedWeightsError")

    def pickle(self) -> Finding:
        """Loads a model whose weights are a pickle."""
        return refused(lambda: self.query("pickle"), "loads it", by="UnsafeModelError")

    def pooling(self) -> Finding:
        """Loads a transformer that does not say how its tokens become one vector."""
        return refused(lambda: self.query("plain"), "loads it", by="IncompleteModelError")

    def _chroma(self) -> Any:  # noqa: ANN401 - a class of two packages
        return import_module("langchain_localhf.vectorstores").Chroma

    def _search(self, search: Callable[[], Any]) -> Finding:
        return refused(search, "it answers", by="FingerprintMismatchError")

    def torchless(self) -> Finding:
        """Embeds where torch cannot be imported, with a model that was compiled before."""
        cell, seen = without_torch(_EMBED, COMPILED)
        return (f"{YES}, once compiled" if cell == YES else cell), seen

    def own_code(self) -> Finding:
        """Loads a model with its own code, saying that it may run, and without saying so."""
        right = cosine(self.query("own_code", model_kwargs={"trust_remote_code": True}), self.query("tiny")) > COSINE
        cell, error = refused(lambda: self.query("own_code"), "loads it", by="UnsafeModelError")
        held = right and cell == YES
        seen = f"with trust_remote_code the right vector: {right}; without: {error}"
        return (f"{YES}; without your word refused" if held else NO), seen

    def rerank(self) -> Finding:
        """Scores two pairs."""
        encoder = import_module(self.package).HuggingFaceCrossEncoder(model_name=self.folders["cross_encoder"])
        return YES, f"{len(encoder.score([(TEXT, 'the harbour'), (TEXT, 'tax filings')]))} scores for two pairs"

    def images(self) -> Finding:
        """Embeds a picture, and a text beside it."""
        clip = import_module(self.package).CLIPEmbeddings(model_name=self.folders["clip"])
        (vector,) = clip.embed_image([str(Path(self.folders["home"]) / "picture.png")])
        same = len(vector) == len(clip.embed_query(TEXT))
        return (YES if same else NO), f"a vector of {len(vector)} numbers, and one of a text"

    def server(self) -> Finding:
        """Asks the server as the clients of four others do."""
        from starlette.testclient import TestClient  # noqa: PLC0415 - an extra

        server = import_module("langchain_localhf.server.service")
        settings = import_module("langchain_localhf.server.settings")
        app = import_module("langchain_localhf.server.app")
        models = settings.ServerSettings(text=self.folders["tiny"], rerank=self.folders["cross_encoder"])
        asked: dict[str, tuple[str, dict[str, Any]]] = {
            "OpenAI's": ("/v1/embeddings", {"input": [TEXT], "model": "tiny"}),
            "TEI's": ("/embed", {"inputs": [TEXT]}),
            "Cohere's": ("/v2/rerank", {"query": TEXT, "documents": ["the harbour"], "model": "any"}),
            "Weaviate's": ("/vectors", {"text": TEXT}),
        }
        service = server.Service(models)
        with TestClient(app.create_app(service, on_failure=lambda: None)) as client:
            while service.error is None and not service.is_ready:
                time.sleep(0.01)
            ok = {name: client.post(path, json=body).status_code for name, (path, body) in asked.items()}
        answered = [name for name, status in ok.items() if status == 200]  # noqa: PLR2004 - HTTP's
        return f"{', '.join(answered)} clients" if answered else NO, f"statuses {ok}"

    def hosted(self) -> Finding:
        """Looks for a class that asks Hugging Face's servers."""
        return found_nothing(self.package, "endpoint", "inference", "hosted")

    def sparse(self) -> Finding:
        """Looks for them."""
        return found_nothing(self.package, "sparse", "colbert", "splade", "interaction")
