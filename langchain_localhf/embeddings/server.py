"""Embeddings for LangChain from a `localhf serve`, here or on another machine; no engine needs to be installed.

The one class that opens a connection at run time, and only to the address that its user states.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import numpy as np
from langchain_core.embeddings import Embeddings
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr

from langchain_localhf.embeddings.server_client import OTHER_SERVER, ServerClient, ServerError
from langchain_localhf.embeddings.texts import checked_texts
from langchain_localhf.texts import check_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from langchain_localhf.engines.base import InputKind

__all__ = ["LocalHFServerEmbeddings", "ServerError"]

_EMBEDDINGS, _MODELS = "/v1/embeddings", "/v1/models"


class LocalHFServerEmbeddings(BaseModel, Embeddings):
    """Embeds texts with a model that `localhf serve` runs, with the same vectors as `HuggingFaceEmbeddings`.

    ```python
    from langchain_localhf import LocalHFServerEmbeddings

    embeddings = LocalHFServerEmbeddings(base_url="http://127.0.0.1:8080")
    vector = embeddings.embed_query("Where is the harbour?")
    ```

    Making an object connects to nothing. All methods are safe to call from many threads; the async ones do not need
    any. Connections are kept between requests, and end with the object or its event loop, or when it is closed; a
    closed object opens new ones when it is used again. A pickled object holds its settings, its key among them, and no
    connections.

    Raises:
        InputError: The address or the key cannot be used.
        pydantic.ValidationError: A field is misspelt, or its value has the wrong type.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    base_url: str = "http://127.0.0.1:8080"
    """The server's address, with or without `/v1`."""
    model: str | None = None
    """One of the models that it serves; None for its model for texts."""
    api_key: SecretStr | None = None
    """One of the server's tokens, if it asks for one."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """How long to wait for a connection, and for each reply."""
    max_retries: int = Field(default=4, ge=0)
    """How often a request is sent again, if the server cannot be reached, starts, or has too much to do; as late as it
    asks for, or after half a second, one, two, and so on."""
    batch_size: int = Field(default=256, ge=1, le=2048)
    """How many texts a request holds at most."""
    dimensions: int | None = Field(default=None, ge=1)
    """How many numbers of each vector are wanted, in a vector of length 1; None for all, as they are."""

    _client: ServerClient = PrivateAttr()

    def __init__(self, **fields: object) -> None:
        # Not a pydantic validator: that would turn the package's own errors into a ValidationError.
        super().__init__(**fields)
        self._client = ServerClient(
            self.base_url,
            api_key=None if self.api_key is None else self.api_key.get_secret_value(),
            timeout_seconds=self.timeout_seconds,
            max_retries=self.max_retries,
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that shares the connections; changed fields are validated, and it has connections of its own then."""
        if not update:
            return super().model_copy(deep=deep)
        return type(self)(**{**{name: getattr(self, name) for name in self.model_fields_set}, **update})

    @property
    def model_name(self) -> str:
        """The model's name, as the server says it."""
        return str(self._description()["id"])

    @property
    def fingerprint(self) -> str:
        """What identifies the vectors, as for `HuggingFaceEmbeddings`; the server is asked anew each time.

        Where `dimensions` are stated, it is one of its own.
        """
        fingerprint = str(self._description()["fingerprint"])
        if self.dimensions is None:
            return fingerprint
        return hashlib.sha256(f"{fingerprint} dimensions={self.dimensions}".encode()).hexdigest()

    @property
    def dimension(self) -> int:
        """The length of a vector; the server is asked for it."""
        return int(self.dimensions or self._description()["dimension"])

    @property
    def max_seq_length(self) -> int | None:
        """How many tokens of a text are read; the rest is cut off. None if there is no limit. The server is asked."""
        limit = self._description()["max_tokens"]
        return None if limit is None else int(limit)

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Embeds documents, with the model's prompt for documents if it has one; a text given twice is sent once.

        Args:
            texts: The texts, as a list or anything else that gives one text after the other, read once.

        Returns:
            One vector of `dimension` floats a text, in the order of the texts.

        Raises:
            InputError: An item is no text; the error names its index.
            ServerError: The server cannot be reached, or refuses the request; `status` and the message say why.
        """
        checked = checked_texts(texts)
        rows = [
            row
            for body in self._bodies(checked, "document")
            for row in self._vectors(body, self._client.send(_EMBEDDINGS, body))
        ]
        return _in_order(checked, rows)

    def embed_query(self, text: str) -> list[float]:
        """Embeds a query, with the model's prompt for queries if it has one.

        Returns:
            One vector of `dimension` floats.

        Raises:
            InputError: This is no text.
            ServerError: As `embed_documents`.
        """
        check_text(text, "the query", None)
        [body] = self._bodies([text], "query")
        return self._vectors(body, self._client.send(_EMBEDDINGS, body))[0]

    async def aembed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """As `embed_documents`, without a thread."""
        checked = checked_texts(texts)
        rows = [
            row
            for body in self._bodies(checked, "document")
            for row in self._vectors(body, await self._client.asend(_EMBEDDINGS, body))
        ]
        return _in_order(checked, rows)

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`, without a thread."""
        check_text(text, "the query", None)
        [body] = self._bodies([text], "query")
        return self._vectors(body, await self._client.asend(_EMBEDDINGS, body))[0]

    def close(self) -> None:
        """Closes the connections that threads have opened."""
        self._client.connections.close()

    async def aclose(self) -> None:
        """Closes the connections of this event loop, and those that threads have opened."""
        await self._client.connections.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    def _description(self) -> dict[str, Any]:
        """What the server says about the model."""
        path = _MODELS if self.model is None else f"{_MODELS}/{quote(self.model, safe='')}"
        reply = self._client.send(path)
        models = reply.get("data", ()) if self.model is None else [reply]
        for described in models:
            if isinstance(described, dict) and described.keys() >= {"id", "fingerprint", "dimension", "max_tokens"}:
                return described
        msg = f"{self.base_url} does not say what identifies the vectors of {self.model or 'its model for texts'}"
        raise ServerError(msg, hint=OTHER_SERVER)

    def _bodies(self, texts: Sequence[str], kind: InputKind) -> Iterator[dict[str, Any]]:
        """The requests for texts, each of which is sent once."""
        fields = {"model": self.model, "dimensions": self.dimensions, "input_type": kind, "encoding_format": "base64"}
        stated = {name: value for name, value in fields.items() if value is not None}
        unique = list(dict.fromkeys(texts))
        for start in range(0, len(unique), self.batch_size):
            yield {**stated, "input": unique[start : start + self.batch_size]}

    def _vectors(self, body: Mapping[str, Any], reply: Mapping[str, Any]) -> list[list[float]]:
        """The vectors of a reply, in the order of the texts that were sent."""
        try:
            items = sorted(reply["data"], key=lambda item: int(item["index"]))
            rows = np.stack(
                [np.frombuffer(base64.b64decode(item["embedding"], validate=True), dtype="<f4") for item in items]
            )
        except (KeyError, TypeError, ValueError):
            rows = np.empty((0, 0))
        if len(rows) != len(body["input"]) or not rows.size:
            raise ServerError(f"{self.base_url} answers something else than vectors", hint=OTHER_SERVER)
        vectors: list[list[float]] = rows.astype(float).tolist()
        return vectors


def _in_order(texts: Sequence[str], rows: Sequence[list[float]]) -> list[list[float]]:
    """A vector of its own for each text, of those for the different ones."""
    row_of = dict(zip(dict.fromkeys(texts), rows, strict=True))
    return [list(row_of[text]) for text in texts]
