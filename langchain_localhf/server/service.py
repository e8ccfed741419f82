"""One running server: its models once they are loaded, its limits, its numbers, and whether it is about to end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from langchain_localhf.server.failures import UnavailableError
from langchain_localhf.server.metrics import Metrics
from langchain_localhf.server.models import Models
from langchain_localhf.server.reading import BodyReader

if TYPE_CHECKING:
    from langchain_localhf.server.settings import ServerSettings

_log = logging.getLogger(__name__)


class Service:
    """What all protocols share.

    Args:
        settings: What to serve, and how.

    Attributes:
        settings: The same.
        metrics: What is counted.
        bodies: Reads the requests' bodies.
        is_draining: Whether the server is about to end: it answers, but wants no new clients.
        error: Why the models cannot be loaded, if that was tried.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.bodies = BodyReader(settings.limits)
        self.is_draining = False
        self.error: Exception | None = None
        self._models: Models | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the models are loaded, and stay for a while."""
        return self._models is not None and not self.is_draining

    @property
    def models(self) -> Models:
        """The models.

        Raises:
            UnavailableError: They are not loaded yet.
        """
        if self._models is None:
            raise self.unavailable()
        return self._models

    def unavailable(self) -> UnavailableError:
        """Why the server is not ready."""
        if self.error is not None:
            return UnavailableError(
                "the models cannot be loaded; the server's log says why", hint="mend it, and restart"
            )
        if self.is_draining:
            return UnavailableError("the server shuts down", hint="ask another one")
        return UnavailableError("the models are being loaded", hint="try again in some seconds")

    async def load(self) -> None:
        """Loads the models in a thread, while the server already answers that it is alive.

        Raises:
            LocalHFError: A model cannot be loaded.
        """
        self.is_draining, self.error = False, None
        try:
            self._models = await asyncio.to_thread(Models.load, self.settings, self.metrics)
        except Exception as error:
            self.error = error
            raise

    async def close(self) -> None:
        """Lets every accepted request end, and gives back the models' memory."""
        self.is_draining = True
        models, self._models = self._models, None
        if models is not None:
            await models.close()
