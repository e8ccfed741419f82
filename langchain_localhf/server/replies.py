"""What goes back to the client: JSON, with vectors written as they lie in memory."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


class JSONReply(Response):
    """A reply in JSON. Arrays of numpy are written directly, each float32 with as few digits as identify it."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:  # noqa: ANN401 - JSON
        super().__init__(content, status_code, headers)

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - JSON has no narrower type
        """The body."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
