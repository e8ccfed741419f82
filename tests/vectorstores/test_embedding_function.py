"""The same model for Chroma's own client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import chromadb
import langchain_chroma
import numpy as np
import pytest
import torch
from chromadb.api.collection_configuration import CreateCollectionConfiguration, UpdateCollectionConfiguration
from chromadb.utils.embedding_functions import register_embedding_function
from langchain_core.embeddings import DeterministicFakeEmbedding
from support import checkpoints

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from langchain_localhf.vectorstores import Chroma, LocalHFEmbeddingFunction, embedding_function

TEXTS = ["the weather is nice", "tax filings are due", "the ship sails at dawn"]
TESTS = Path(__file__).parents[1]


def ask(client: chromadb.ClientAPI, text: str) -> list[str]:
    """What Chroma's own client finds first, with nothing but the collection's name."""
    found = client.get_collection("docs").query(query_texts=[text], n_results=1)["documents"]
    assert found is not None
    return found[0]


def run_in_new_process(script: str, *arguments: object) -> list[Any]:
    """The JSON values that a script prints in a process that reaches for no network."""
    guarded = f"from support.network import NetworkGuard\nguard = NetworkGuard()\nguard.on = True\n{script}"
    command = [sys.executable, "-c", f"{guarded}\nassert guard.attempts == [], guard.attempts"]
    done = subprocess.run(  # noqa: S603 - our own script
        [*command, *map(str, arguments)], cwd=TESTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class TestReopening:
    """`client.get_collection` has the right model."""

    def test_of_a_collection_made_here(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """Queries, and documents that are added without vectors."""
        Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        assert ask(client, TEXTS[1]) == [TEXTS[1]]
        native = client.get_collection("docs")
        native.add(ids=["new"], documents=["red blue green"])
        stored = native.get(ids=["new"], include=["embeddings"])["embeddings"]
        np.testing.assert_allclose(stored, embeddings.embed_documents(["red blue green"]), atol=1e-6)

    def test_of_a_collection_made_by_the_client(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings
    ) -> None:
        """The function can be given to Chroma's client itself."""
        function = LocalHFEmbeddingFunction(embeddings)
        made = client.create_collection("docs", embedding_function=function)
        made.add(ids=list("abc"), documents=TEXTS)
        assert made.query(query_texts=[TEXTS[2]], n_results=1)["documents"] == [[TEXTS[2]]]
        assert ask(client, TEXTS[2]) == [TEXTS[2]]
        assert made.configuration_json["hnsw"]["space"] == "l2"
        assert client.get_collection("docs", embedding_function=function).name == "docs"

    def test_queries_are_queries(self, client: chromadb.ClientAPI, tmp_path: Path) -> None:
        """The model's prompts apply, and the settings that were given."""
        folder = checkpoints.sentence_transformer(
            tmp_path / "prompted", prompts={"query": "red blue", "document": "tax"}
        )
        embeddings = HuggingFaceEmbeddings(
            model_name=str(folder), encode_kwargs={"batch_size": 2}, query_instruction="winter in "
        )
        Chroma("docs", embeddings, client=client)
        reopened = client.get_collection("docs").configuration["embedding_function"]
        assert reopened is not None
        np.testing.assert_allclose(reopened.embed_query(TEXTS[:1])[0], embeddings.embed_query(TEXTS[0]), atol=1e-6)
        np.testing.assert_allclose(reopened(TEXTS), embeddings.embed_documents(TEXTS), atol=1e-6)

    def test_in_another_process(self, tmp_path: Path, embeddings: HuggingFaceEmbeddings) -> None:
        """One import is all that it takes."""
        Chroma.from_texts(TEXTS, embeddings, persist_directory=str(tmp_path / "db"), collection_name="docs")
        script = """
import json, sys, chromadb, langchain_localhf.vectorstores
print(json.dumps("torch" in sys.modules))
collection = chromadb.PersistentClient(sys.argv[1]).get_collection("docs")
print(json.dumps(collection.query(query_texts=sys.argv[2:], n_results=1)["documents"]))
"""
        assert run_in_new_process(script, tmp_path / "db", TEXTS[1]) == [False, [[TEXTS[1]]]]

    def test_without_the_import(self, tmp_path: Path, embeddings: HuggingFaceEmbeddings) -> None:
        """Chroma says that the function is missing, and downloads nothing; vectors still find."""
        Chroma.from_texts(TEXTS, embeddings, persist_directory=str(tmp_path / "db"), collection_name="docs")
        script = """
import json, sys, chromadb, langchain_chroma
client = chromadb.PersistentClient(sys.argv[1])
vector = json.loads(sys.argv[2])
try:
    client.get_collection("docs").query(query_texts=["harbour"])
except ValueError as error:
    print(json.dumps(str(error)))
print(json.dumps(client.get_collection("docs").query(query_embeddings=[vector], n_results=1)["documents"]))
store = langchain_chroma.Chroma("docs", client=client)
print(json.dumps([found.page_content for found in store.similarity_search_by_vector(vector, k=1)]))
try:
    store._select_relevance_score_fn()
except ValueError as error:
    print(json.dumps(str(error)))
print(json.dumps("langchain_localhf" in sys.modules))
"""
        vector = json.dumps(embeddings.embed_query(TEXTS[1]))
        message, *found, scores, imported = run_in_new_process(script, tmp_path / "db", vector)
        assert message.startswith("Embedding function localhf not found.")
        assert found == [[[TEXTS[1]]], [TEXTS[1]]]
        assert scores.startswith("Embedding function localhf not found.")  # a documented limit
        assert not imported

    def test_function_of_the_user_stays(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """Who states a function for Chroma's client gets that one."""
        theirs = _Ones()
        configuration = CreateCollectionConfiguration(embedding_function=theirs)
        Chroma("docs", embeddings, client=client, collection_configuration=configuration)
        assert client.get_collection("docs").configuration_json["embedding_function"]["name"] == "ones"
        assert configuration == {"embedding_function": theirs}

    def test_none_for_embeddings_without_fingerprint(self, client: chromadb.ClientAPI) -> None:
        """Nothing is known about them that a collection could remember."""
        Chroma("docs", DeterministicFakeEmbedding(size=6), client=client)
        assert client.get_collection("docs").configuration_json["embedding_function"] is None


class TestLoading:
    """The model is loaded when it is needed, and once."""

    def test_reading_the_configuration_loads_nothing(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Chroma builds the function whenever it reads a configuration; scores need that."""
        Chroma("docs", embeddings, client=client)
        monkeypatch.setattr(embedding_function, "HuggingFaceEmbeddings", None)
        collection = client.get_collection("docs")
        assert collection.configuration["embedding_function"] is not None
        upstream = langchain_chroma.Chroma("docs", embeddings, client=client)
        assert upstream.similarity_search_with_relevance_scores("harbour") == []

    def test_two_queries_load_once(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Chroma makes a new function for each query by text."""
        Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        loads = []

        def load(**settings: Any) -> HuggingFaceEmbeddings:
            loads.append(settings)
            return HuggingFaceEmbeddings(**settings)

        monkeypatch.setattr(embedding_function, "HuggingFaceEmbeddings", load)
        assert [ask(client, text) for text in TEXTS] == [[text] for text in TEXTS]
        assert loads == [{"model_name": embeddings.model_name}]

    def test_other_files_under_the_name(self, client: chromadb.ClientAPI, tiny: Path) -> None:
        """A model that was replaced since is refused at the first query."""
        embeddings = HuggingFaceEmbeddings(model_name=str(tiny))
        Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        filled_by = embeddings.fingerprint
        checkpoints.edit_weights(tiny, lambda tensors: {name: tensor.flip(0) for name, tensor in tensors.items()})
        with pytest.raises(FingerprintMismatchError, match="and the model here is") as caught:
            ask(client, "harbour")
        assert caught.value.stored == filled_by
        assert caught.value.given == HuggingFaceEmbeddings(model_name=str(tiny)).fingerprint

    def test_missing_folder(self, client: chromadb.ClientAPI, tiny: Path) -> None:
        """A model that is gone is missing; Chroma does not hide that."""
        Chroma.from_texts(TEXTS, HuggingFaceEmbeddings(model_name=str(tiny)), client=client, collection_name="docs")
        shutil.rmtree(tiny)
        with pytest.raises(ModelNotFoundError, match=r"there is no folder at .*tiny"):
            ask(client, "harbour")

    @pytest.mark.parametrize("method", ["__call__", "embed_query"])
    def test_missing_repository(self, method: str) -> None:
        """The hint is the command that brings it here."""
        config = {"version": 1, "model_name": "acme/absent", "fingerprint": "0" * 64, "settings": {}}
        function = LocalHFEmbeddingFunction.build_from_config(config)
        with pytest.raises(ModelNotFoundError, match="localhf pull acme/absent"):
            getattr(function, method)(["red"])

    def test_unreadable_configuration(self) -> None:
        """What a later version wrote is refused, by name."""
        function = LocalHFEmbeddingFunction.build_from_config({"version": 2, "model": "acme/absent"})
        with pytest.raises(InputError, match="pip install --upgrade langchain-localhf"):
            function(["red"])


class TestConfiguration:
    """What a collection remembers."""

    def test_says_what_matters(self, tiny: Path) -> None:
        """The model, its fingerprint, and the settings that were stated."""
        settings: dict[str, Any] = {
            "model_kwargs": {"truncate_dim": 8, "model_kwargs": {"torch_dtype": "float32"}},
            "encode_kwargs": {"normalize_embeddings": True},
            "query_encode_kwargs": {"batch_size": 1},
            "query_instruction": "query: ",
            "cache_folder": "models",
        }
        embeddings = HuggingFaceEmbeddings(model_name=str(tiny), **settings)
        config = LocalHFEmbeddingFunction(embeddings).get_config()
        assert config == {
            "version": 1,
            "model_name": str(tiny),
            "fingerprint": embeddings.fingerprint,
            "settings": settings,
        }
        LocalHFEmbeddingFunction.validate_config(config)
        assert LocalHFEmbeddingFunction.build_from_config(config).get_config() == config

    def test_leaves_out_what_belongs_to_a_machine_or_a_person(self, tiny: Path) -> None:
        """A collection travels: no token, no device, no permission to run code."""
        embeddings = HuggingFaceEmbeddings(
            model_name=str(tiny),
            model_kwargs={"device": "cpu", "token": "hf_secret", "trust_remote_code": True, "truncate_dim": 8},
            encode_kwargs={"device": "cpu"},
        )
        config = LocalHFEmbeddingFunction(embeddings).get_config()
        assert config["settings"] == {"model_kwargs": {"truncate_dim": 8}, "encode_kwargs": {}}
        reopened = LocalHFEmbeddingFunction.build_from_config(config)
        np.testing.assert_allclose(reopened(TEXTS), embeddings.embed_documents(TEXTS), atol=1e-6)

    def test_setting_that_is_no_json(self, client: chromadb.ClientAPI, tiny: Path) -> None:
        """Chroma's client cannot have it; the store works, and a query by text elsewhere says why it cannot."""
        odd = HuggingFaceEmbeddings(model_name=str(tiny), model_kwargs={"model_kwargs": {"torch_dtype": torch.float32}})
        place = r"model_kwargs\['model_kwargs'\]\['torch_dtype'\] is dtype torch.float32, which a collection cannot"
        with pytest.raises(InputError, match=place) as caught:
            LocalHFEmbeddingFunction(odd)
        assert '"float16"' in str(caught.value.hint)
        store = Chroma.from_texts(TEXTS, odd, client=client, collection_name="docs")
        assert store.similarity_search(TEXTS[0], k=1)[0].page_content == TEXTS[0]
        with pytest.raises(InputError, match=f"cannot be opened from the collection alone: {place}"):
            ask(client, "harbour")

    def test_lists_and_tuples(self, tiny: Path) -> None:
        """Both become lists; an odd item is named by its place."""
        function = embedding_function._recordable({"a": (1, [None, True])}, "encode_kwargs")
        assert function == {"a": [1, [None, True]]}
        with pytest.raises(InputError, match=r"encode_kwargs\['a'\]\[1\] is set"):
            embedding_function._recordable({"a": (1, {2})}, "encode_kwargs")

    def test_embeddings_of_another_kind(self, client: chromadb.ClientAPI) -> None:
        """With a fingerprint they are stamped; only Chroma's client cannot make them again, and says so."""

        class Other(DeterministicFakeEmbedding):
            fingerprint: str = "f" * 64

        store = Chroma.from_texts(TEXTS, Other(size=6), client=client, collection_name="docs")
        assert store._collection.metadata == {"localhf.fingerprint": "f" * 64, "localhf.model": "Other"}
        with pytest.raises(InputError, match="Other is no HuggingFaceEmbeddings"):
            ask(client, "harbour")

    def test_update_to_another_model_is_refused(
        self,
        client: chromadb.ClientAPI,
        embeddings: HuggingFaceEmbeddings,
        other: HuggingFaceEmbeddings,
        tmp_path: Path,
    ) -> None:
        """The same model from another folder may take its place."""
        Chroma("docs", embeddings, client=client)
        collection = client.get_collection("docs")
        moved = HuggingFaceEmbeddings(model_name=str(shutil.copytree(embeddings.model_name, tmp_path / "moved")))
        collection.modify(
            configuration=UpdateCollectionConfiguration(embedding_function=LocalHFEmbeddingFunction(moved))
        )
        assert ask_name(client) == moved.model_name
        with pytest.raises(FingerprintMismatchError, match=r"was filled by .*moved .*the model here is .*other"):
            collection.modify(
                configuration=UpdateCollectionConfiguration(embedding_function=LocalHFEmbeddingFunction(other))
            )


def ask_name(client: chromadb.ClientAPI) -> str:
    """The model that the collection names to Chroma's client."""
    return str(client.get_collection("docs").configuration_json["embedding_function"]["config"]["model_name"])


def test_without_chromadb() -> None:
    """The error names the extra."""
    script = """
import json, sys
sys.modules["chromadb"] = None
try:
    import langchain_localhf.vectorstores
except ImportError as error:
    print(json.dumps([type(error).__name__, error.message, error.hint]))
"""
    (found,) = run_in_new_process(script)
    assert found == [
        "EngineNotInstalledError",
        "the vector store Chroma needs chromadb, which is not installed",
        'pip install "langchain-localhf[chroma]"',
    ]


def test_other_missing_modules_are_not_renamed() -> None:
    """An error of another module is that module's."""
    script = """
import json, sys
sys.modules["tqdm"] = None
try:
    import langchain_localhf.vectorstores.chroma
except ImportError as error:
    print(json.dumps(type(error).__name__))
"""
    assert run_in_new_process(script) == ["ModuleNotFoundError"]


@register_embedding_function
class _Ones(chromadb.EmbeddingFunction[chromadb.Documents]):
    def __init__(self) -> None:
        pass

    def __call__(self, input: chromadb.Documents) -> chromadb.Embeddings:  # noqa: A002 - Chroma's name
        return [np.ones(checkpoints.DIMENSION, dtype=np.float32) for _ in input]

    @staticmethod
    def name() -> str:
        return "ones"

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> _Ones:
        return _Ones()

    def get_config(self) -> dict[str, Any]:
        return {}
