"""Images for any engine: decoded safely, and brought into the form that a model reads; without torch."""

from __future__ import annotations

from langchain_localhf.errors import EngineNotInstalledError

try:
    from PIL.Image import Image

    from langchain_localhf.engines.images.decoding import DEFAULT_MAX_PIXELS, begins_like_image, decode
    from langchain_localhf.engines.images.prefetching import prefetched
    from langchain_localhf.engines.images.preparing import normalized, prepared
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "PIL":
        raise
    msg = "reading images needs Pillow, which is not installed"
    raise EngineNotInstalledError(msg, hint='pip install "langchain-localhf[image]"') from error

__all__ = ["DEFAULT_MAX_PIXELS", "Image", "begins_like_image", "decode", "normalized", "prefetched", "prepared"]
