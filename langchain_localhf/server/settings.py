"""What a server is told: which models it serves, what it promises to do at once, and who may ask."""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """How much one request, and all of them together, may ask for; looked at before any work.

    Attributes:
        body_bytes: The size of a request's body.
        inputs: How many texts, or documents to rank, a request may hold.
        text_bytes: The size of a text; of a longer one every model reads a small part only.
        images: How many images a request may hold.
        image_pixels: How many pixels an image may have.
        bodies_bytes: The size of all bodies together that are being read or worked on.
        batch_tokens: How many tokens go through a model together.
        queue_tokens: How many tokens may wait for a model; a request that comes to an empty queue may be larger.
        body_seconds: How long a body may take to arrive.
    """

    body_bytes: int = 32 * MIB
    inputs: int = 2048
    text_bytes: int = MIB
    images: int = 64
    image_pixels: int = 64_000_000
    bodies_bytes: int = 256 * MIB
    batch_tokens: int = 4096
    queue_tokens: int = 262_144
    body_seconds: float = 30.0


@dataclass(frozen=True)
class ServerSettings:
    """What a server serves, and how. At least one model is named.

    Attributes:
        text: The embedding model for texts.
        clip: The model for images, and for the texts that are compared with them.
        clip_text: Another model for those texts, with vectors in the same space.
        rerank: The cross-encoder.
        pooling: How the model for texts makes one vector of its token vectors, if it does not say so itself.
        backend: The engine of each, as `HuggingFaceEmbeddings` takes it.
        trust_remote_code: Whether models may run code that came with them.
        tokens: What a client has to send one of; empty where everybody may ask.
        drain_seconds: How long what was accepted may take to end after SIGTERM; Kubernetes kills after 30.
        limits: How much may be asked for.
    """

    text: str | None = None
    clip: str | None = None
    clip_text: str | None = None
    rerank: str | None = None
    pooling: str | None = None
    backend: str = "auto"
    trust_remote_code: bool = False
    tokens: tuple[str, ...] = ()
    drain_seconds: int = 25
    limits: Limits = field(default_factory=Limits)
