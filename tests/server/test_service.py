"""A server's life: loading, ready, draining, and again."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import httpx
import pytest
from support import checkpoints
from support.servers import running

from langchain_localhf.errors import LocalHFError, UnsupportedModelError
from langchain_localhf.server.app import create_app
from langchain_localhf.server.failures import UnavailableError
from langchain_localhf.server.service import Service
from langchain_localhf.server.settings import ServerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from support.servers import RunningServer


@pytest.mark.loopback
def test_readiness(tiny: Path) -> None:
    """A server is ready with its models, and not when it drains; it is alive and answers all the time."""
    with (
        running(ServerSettings(text=str(tiny))) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):

        def statuses() -> list[int]:
            paths = ("/.well-known/live", "/.well-known/ready", "/health", "/ping", "/metrics")
            return [client.get(path).status_code for path in paths]

        assert statuses() == [204, 204, 200, 200, 200]
        server.service.is_draining = True
        assert statuses() == [204, 503, 503, 503, 200]
        reply = client.post("/embed", json={"inputs": "x"})
        assert (reply.status_code, reply.headers["connection"]) == (200, "close")
        server.service.is_draining = False
        assert statuses() == [204, 204, 200, 200, 200]


@pytest.mark.loopback
def test_health_does_not_wait_for_the_model(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the model computes, everything that orchestrators ask is answered."""
    released = threading.Event()
    with (
        running(ServerSettings(text=str(tiny))) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        assert server.service.models.texts is not None
        encoder = server.service.models.texts.loaded.encoder
        encode = encoder.encode
        monkeypatch.setattr(encoder, "encode", lambda *a, **b: (released.wait(10), encode(*a, **b))[1])
        asking = threading.Thread(target=lambda: httpx.post(f"{server.url}/embed", json={"inputs": "x"}))
        asking.start()
        for path in ("/.well-known/live", "/.well-known/ready", "/health", "/metrics", "/meta"):
            assert client.get(path, timeout=2).status_code < 300
        assert asking.is_alive()
        released.set()
        asking.join()


async def test_not_loaded_and_closed(tiny: Path) -> None:
    """Before the models are there, and after the end, the errors say which it is; a service can begin anew."""
    service = Service(ServerSettings(text=str(tiny)))
    with pytest.raises(UnavailableError, match="being loaded"):
        _ = service.models
    for _ in range(2):
        await service.load()
        assert service.is_ready
        assert service.models.texts is not None
        assert (await service.models.texts.embed(["x"])).vectors.shape[0] == 1
        await service.close()
        assert not service.is_ready
        with pytest.raises(UnavailableError, match="shuts down"):
            _ = service.models


async def test_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """The error is kept, is told to whoever runs the application, and is nobody's business outside."""
    service = Service(ServerSettings(text=str(tmp_path / "nowhere")))
    failed = asyncio.Event()
    app = create_app(service, on_failure=failed.set)
    async with app.router.lifespan_context(app):
        await asyncio.wait_for(failed.wait(), 10)
        assert isinstance(service.error, LocalHFError)
        assert not service.is_ready
        with pytest.raises(UnavailableError) as unavailable:
            _ = service.models
        assert "nowhere" not in str(unavailable.value)


async def test_models_that_do_not_fit(tiny: Path) -> None:
    """A model that reads no images is none for images."""
    service = Service(ServerSettings(clip=str(tiny)))
    with pytest.raises(UnsupportedModelError, match="reads texts only"):
        await service.load()


@pytest.mark.loopback
def test_two_servers(tmp_path: Path) -> None:
    """Two servers in one process share no numbers and no models' state."""
    settings = ServerSettings(text=str(checkpoints.sentence_transformer(tmp_path / "one")))

    def items(server: RunningServer) -> str:
        text = httpx.get(f"{server.url}/metrics").text
        [line] = [line for line in text.splitlines() if line.startswith("localhf_batch_items_sum")]
        return line.split()[1]

    with running(settings) as first, running(settings) as second:
        httpx.post(f"{first.url}/embed", json={"inputs": "x"})
        assert (items(first), items(second)) == ("1.0", "0.0")
