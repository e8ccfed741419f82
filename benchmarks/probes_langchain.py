"""Probes of langchain-huggingface, and of the classes for Hugging Face's models in langchain-community."""

from __future__ import annotations

import asyncio
import json
import math
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_folders import CACHED, LOADED, PROMPTS
from probing import NO, TEXT, YES, Finding, attempt, found_nothing, refused, without_torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from probing import Network

SETTINGS = {"max_new_tokens": 16, "do_sample": False}
QUESTION = "What is the weather in Paris today?"
SCHEMA = {"title": "City", "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
COSINE = 0.99999
RANDOM = "random vectors"
_MINUTE = 60
_EMBED = """
import importlib
embeddings = importlib.import_module(sys.argv[1]).HuggingFaceEmbeddings(model_name=sys.argv[2])
print(len(embeddings.embed_query("a ship")), "numbers")
"""


def cosine(one: list[float], other: list[float]) -> float:
    """How much two vectors point to the same side."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.hypot(*one) / math.hypot(*other)


def closeness(vectors: list[list[float]], folders: dict[str, str]) -> Finding:
    """Whether the vectors of the texts are those of sentence-transformers."""
    truth = json.loads(Path(folders["truth"]).read_text(encoding="utf-8"))
    lowest = min(cosine(one, other) for one, other in zip(vectors, truth, strict=True))
    seen = f"all-MiniLM-L6-v2, {len(truth)} texts: the lowest cosine is {lowest:.7f}"
    return (YES if lowest >= COSINE else f"no: {lowest:.4f}"), seen


class HuggingFace:
    """langchain-huggingface.

    Args:
        folders: Models and texts, by name.
        network: Counts who tries to leave this machine.
    """

    package = "langchain_huggingface"
    embeddings_module = "langchain_huggingface"

    def __init__(self, folders: dict[str, str], network: Network) -> None:
        self.folders, self.network = folders, network

    def embeddings(self, model: str, **fields: Any) -> Any:  # noqa: ANN401 - a class of several packages
        """Embeddings of a model: one of the folders, or a name on the hub."""
        module = import_module(self.embeddings_module)
        return module.HuggingFaceEmbeddings(model_name=model if "/" in model else self.folders[model], **fields)

    def query(self, model: str, text: str = TEXT, **fields: Any) -> list[float]:  # noqa: ANN401 - of a class
        """The vector of a query."""
        return self.embeddings(model, **fields).embed_query(text)  # type: ignore[no-any-return]

    @cached_property
    def llm(self) -> Any:  # noqa: ANN401 - as above
        """A language model with random weights."""
        pipeline = import_module(self.package).HuggingFacePipeline
        return pipeline.from_model_id(self.folders["lm"], "text-generation", pipeline_kwargs=dict(SETTINGS))

    @cached_property
    def chat(self) -> Any:  # noqa: ANN401 - as above
        """A chat with it."""
        return import_module(self.package).ChatHuggingFace(llm=self.llm)

    def cached(self) -> Finding:
        """Embeds with models of the hub's cache: one that was loaded before, and one that was only downloaded."""
        loaded, error, tries = self.network.watched(lambda: self.query(LOADED))
        seen = f"loaded before: {tries or 'no try to connect'}, then {error or 'it embedded'}"
        downloaded, error, more = self.network.watched(lambda: self.query(CACHED))
        seen += f"; only downloaded: {more or 'no try to connect'}, then {error or 'it embedded'}"
        if not (loaded and downloaded):
            return NO, seen
        long = ", for minutes after `hf download`" if self.network.waited > _MINUTE else ""
        return (f"after tries to connect{long}" if tries or more else YES), seen

    def missing(self) -> Finding:
        """Asks for a model that is nowhere."""
        _, error, tries = self.network.watched(lambda: self.query("org/missing"))
        return ("no: tries to download" if tries else YES), f"{tries or 'no try to connect'}; then {error}"

    def changed(self) -> Finding:
        """Embeds with a model of which one byte was changed in the hub's cache."""
        return refused(self._changed, "loads it")

    def _changed(self) -> list[float]:
        cache = str(Path(self.folders["home"]) / "changed")
        return self.query(CACHED, cache_folder=cache, model_kwargs={"local_files_only": True})

    def lockfile(self) -> Finding:
        """Looks for one."""
        return found_nothing(self.package, "lock")

    def random(self) -> Finding:
        """Loads a model twice of which a weight was left out."""
        one, other = (self.query("lost") for _ in range(2))
        return f"no: {RANDOM}", f"loaded twice, two vectors of one text: cosine {cosine(one, other):.2f}"

    def pickle(self) -> Finding:
        """Loads a model whose weights are a pickle."""
        return refused(lambda: self.query("pickle"), "loads it")

    def pooling(self) -> Finding:
        """Loads a transformer that does not say how its tokens become one vector."""
        same = cosine(self.query("plain"), self.query("tiny")) > COSINE
        return ("no: takes the mean" if same else NO), f"no error; the vector is that of the mean: {same}"

    def prompts(self) -> Finding:
        """Compares a query, and a document, with the same text behind the prompt that was saved with the model."""
        plain, prompted = self.embeddings("tiny"), self.embeddings("prompts")
        wanted = [plain.embed_query(PROMPTS["query"] + TEXT), *plain.embed_documents([PROMPTS["document"] + TEXT])]
        given = [prompted.embed_query(TEXT), *prompted.embed_documents([TEXT])]
        same = [cosine(one, other) > COSINE for one, other in zip(wanted, given, strict=True)]
        seen = f"as with the prompt before it: the query {same[0]}, the document {same[1]}"
        return (YES if all(same) else NO), seen

    def vectors(self) -> Finding:
        """Embeds real text with the real all-MiniLM-L6-v2."""
        texts = json.loads(Path(self.folders["texts"]).read_text(encoding="utf-8"))
        return closeness(self.embeddings("minilm").embed_documents(texts), self.folders)

    def collection(self) -> Finding:
        """Fills a collection of Chroma with one model, and searches it with another one of the same dimension."""
        chroma = self._chroma()
        place = {"collection_name": self.package, "persist_directory": f"{self.folders['home']}/db"}
        chroma.from_texts(["the harbour", "the river"], self.embeddings("tiny"), **place)
        search = lambda: chroma(embedding_function=self.embeddings("other"), **place).similarity_search(TEXT, k=1)  # noqa: E731
        return self._search(search)

    def _search(self, search: Callable[[], Any]) -> Finding:
        return refused(search, "it answers")

    def _chroma(self) -> Any:  # noqa: ANN401 - a class of two packages
        return import_module("langchain_chroma").Chroma

    def torchless(self) -> Finding:
        """Embeds where torch cannot be imported."""
        return without_torch(_EMBED, self.embeddings_module, self.folders["tiny"])

    def own_code(self) -> Finding:
        """Loads a model with its own code, saying that it may run, and twice without saying so."""
        right = cosine(self.query("own_code", model_kwargs={"trust_remote_code": True}), self.query("tiny")) > COSINE
        one, other = (self.query("own_code") for _ in range(2))
        seen = f"with trust_remote_code the right vector: {right}; without it two vectors of one text: cosine"
        return f"{YES if right else NO}; without your word {RANDOM}", f"{seen} {cosine(one, other):.2f}"

    def stop(self) -> Finding:
        """Asks for a text that ends before a stop string."""
        answer = self.llm.invoke(QUESTION).removeprefix(QUESTION)
        stop = answer[6:9]
        stopped = self.llm.invoke(QUESTION, stop=[stop]).removeprefix(QUESTION)
        held = stopped == answer[: answer.index(stop)]
        seen = "the text ends before the stop string" if held else "the stop string is in the text"
        return (YES if held else "no: `stop` is ignored" if stop in stopped else NO), seen

    def structured(self) -> Finding:
        """Asks a model with random weights for an object of a class."""
        from pydantic import create_model  # noqa: PLC0415 - not everywhere

        city = create_model("City", name=(str, ...))
        answer, error = attempt(lambda: self.chat.with_structured_output(city).invoke(QUESTION))
        if isinstance(answer, city):
            return YES, "an object of the class, from a model with random weights"
        by_schema, failure = attempt(lambda: self.chat.with_structured_output(SCHEMA).invoke(QUESTION))
        return NO, f"for a class: {error}; for a schema: {failure or by_schema}"

    def awaited(self) -> Finding:
        """Awaits an answer of a chat, while another task goes on."""
        turns = 0

        async def both() -> Any:  # noqa: ANN401 - a message
            nonlocal turns
            asked = asyncio.create_task(self.chat.ainvoke(QUESTION))
            while not asked.done():
                turns += 1
                await asyncio.sleep(0)
            return await asked

        answer, error = attempt(lambda: asyncio.run(both()))
        if error:
            return NO, error
        return (YES if turns > 1 else "no: it blocks"), f"an answer, and the other task went on: {bool(answer)}"

    def rerank(self) -> Finding:
        """Scores a pair with a cross-encoder."""
        return found_nothing(self.package, "cross", "rerank")

    def images(self) -> Finding:
        """Embeds a picture."""
        found, _ = attempt(lambda: self.embeddings("clip").embed_image)
        return (NO, "the embeddings have no `embed_image`") if found is None else (YES, "embed_image")

    def server(self) -> Finding:
        """Looks for one."""
        return found_nothing(self.package, "serve", "server", "app")

    def sparse(self) -> Finding:
        """Looks for them."""
        return found_nothing(self.embeddings_module, "sparse", "colbert", "splade", "interaction")

    def hosted(self) -> Finding:
        """Asks for a vector from a model on Hugging Face's servers."""
        hosted = import_module(self.package).HuggingFaceEndpointEmbeddings
        return self._reached(lambda: hosted(model="org/tiny", huggingfacehub_api_token="none").embed_query(TEXT))  # noqa: S106 - no secret

    def _reached(self, call: Callable[[], Any]) -> Finding:
        _, error, tries = self.network.watched(call)
        return (YES if tries else NO), f"{tries or 'no try to connect'}; then {error}"

    def gpu(self) -> Finding:
        """Asks for a GPU where there is none."""
        _, error = attempt(lambda: self.query("tiny", model_kwargs={"device": "cuda"}))
        return ("torch's" if not error or "CUDA" in error else NO), error or "embedded on the GPU that is here"


class Community(HuggingFace):
    """The classes for Hugging Face's models in langchain-community."""

    package = "langchain_community"
    embeddings_module = "langchain_community.embeddings"

    @cached_property
    def llm(self) -> Any:  # noqa: ANN401 - a class of several packages
        """A language model with random weights."""
        pipeline = import_module("langchain_community.llms").HuggingFacePipeline
        return pipeline.from_model_id(self.folders["lm"], "text-generation", pipeline_kwargs=dict(SETTINGS))

    def structured(self) -> Finding:
        """Looks for a chat with a model of Hugging Face on this machine."""
        found_nothing("langchain_community.chat_models", "huggingface", "hugging_face")
        return "no chat", "no public name of langchain_community.chat_models has huggingface in it"

    def awaited(self) -> Finding:
        """Looks for a chat."""
        return self.structured()

    def rerank(self) -> Finding:
        """Scores two pairs."""
        encoder = import_module("langchain_community.cross_encoders").HuggingFaceCrossEncoder
        model = encoder(model_name=self.folders["cross_encoder"], model_kwargs={"local_files_only": True})
        scores = list(model.score([(TEXT, "the harbour"), (TEXT, "tax filings")]))
        return YES, f"{len(scores)} scores for two pairs"

    def server(self) -> Finding:
        """Looks for one."""
        return NO, found_nothing(self.package, "serve", "app")[1]

    def hosted(self) -> Finding:
        """Asks for a vector from a model on Hugging Face's servers."""
        hosted = import_module("langchain_community.embeddings").HuggingFaceInferenceAPIEmbeddings
        return self._reached(lambda: hosted(api_key="none", model_name="org/tiny").embed_query(TEXT))
