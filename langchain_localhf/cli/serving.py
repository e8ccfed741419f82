"""The command that serves models over HTTP, until it is told to end."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from langchain_localhf.cli.output import say
from langchain_localhf.errors import EngineNotInstalledError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from types import ModuleType

    from langchain_localhf.server.models import Models
    from langchain_localhf.server.settings import Limits

# The second is the name in the container of Weaviate's text2vec-transformers.
_TOKEN_VARIABLES = ("LOCALHF_SERVE_TOKENS", "AUTHENTICATION_ALLOWED_TOKENS")
_PACKAGES_OF_THE_EXTRA = {"orjson", "prometheus_client", "starlette", "uvicorn"}
_POSITIVE = click.IntRange(min=1)


@click.command()
@click.option("--text", metavar="MODEL", help="The embedding model for texts.")
@click.option("--clip", metavar="MODEL", help="The model for images, and for the texts that are compared with them.")
@click.option("--clip-text", metavar="MODEL", help="Another model for those texts, made for the same space.")
@click.option("--rerank", metavar="MODEL", help="The cross-encoder that ranks texts.")
@click.option(
    "--pooling",
    type=click.Choice(["cls", "mean", "lasttoken"]),
    help="How --text makes one vector of its tokens; only for a model that does not say so itself.",
)
@click.option(
    "--models-dir", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="FOLDER",
    help="Serve the models in FOLDER/clip, /text, /model, as in Weaviate's containers.",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The port; 0 for any free one."
)
@click.option(
    "--backend", type=click.Choice(["auto", "torch", "openvino"]), default="auto", show_default=True,
    help="What runs the models; auto takes what was compiled, where there is such.",
)  # fmt: skip
@click.option("--trust-remote-code", is_flag=True, help="Run the code of models that come with their own.")
@click.option(
    "--token", "tokens", multiple=True, metavar="TOKEN",
    help="Let only those in who send this token; may be repeated. Better hidden in LOCALHF_SERVE_TOKENS=one,two.",
)  # fmt: skip
@click.option("--max-body-bytes", type=_POSITIVE, metavar="N", help="How large a request may be.  [default: 32 MiB]")
@click.option("--max-inputs", type=_POSITIVE, metavar="N", help="How many texts it may hold.  [default: 2048]")
@click.option("--max-images", type=_POSITIVE, metavar="N", help="How many images it may hold.  [default: 64]")
@click.option(
    "--max-waiting-tokens", type=_POSITIVE, metavar="N",
    help="How much may wait for a model before others are told to come later.  [default: 262144]",
)  # fmt: skip
@click.option(
    "--drain-seconds", type=_POSITIVE, metavar="N",
    help="How long what was accepted may take to end after SIGTERM.  [default: 25]",
)  # fmt: skip
def serve(models_dir: Path | None, host: str, port: int, **options: Any) -> None:  # noqa: ANN401 - as declared above
    """Serve models over HTTP.

    Clients of Weaviate's inference containers, of OpenAI's embeddings, and of text-embeddings-inference speak to it as
    they are. It answers at once, is ready when all models are loaded, and ends with SIGTERM or Ctrl-C, after what it
    has accepted.

    Each MODEL is a name in the store or a folder. Options go before what --models-dir finds.
    """
    names = {use: options[use] for use in ("text", "clip", "clip_text", "rerank") if options[use] is not None}
    if not names and models_dir is None:
        msg = "name a model: --text, --clip, --rerank, or --models-dir"
        raise click.UsageError(msg)
    tokens = _tokens(options["tokens"])
    layout, running, settings = _imported()
    if models_dir is not None:
        names = _completed(names, layout.models_in(models_dir.absolute()))
    if options["pooling"] is not None and "text" not in names:
        msg = "--pooling is for the model for texts; name it: --text"
        raise click.UsageError(msg)
    if "clip_text" in names and "clip" not in names:
        msg = "--clip-text is for the texts that are compared with images; name the model for these: --clip"
        raise click.UsageError(msg)
    chosen = settings.ServerSettings(
        **names,
        pooling=options["pooling"],
        backend=options["backend"],
        trust_remote_code=options["trust_remote_code"],
        tokens=tokens,
        drain_seconds=options["drain_seconds"] or settings.ServerSettings().drain_seconds,
        limits=_limits(settings.Limits(), options),
    )
    running.serve(chosen, host=host, port=port, on_ready=lambda listener, models: _say_ready(listener, models, tokens))


def _imported() -> tuple[ModuleType, ModuleType, ModuleType]:
    """The server, which loads when the command runs; the only place that asks whether its extra is installed."""
    try:
        from langchain_localhf.server import layout, running, settings  # noqa: PLC0415 - as said
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _PACKAGES_OF_THE_EXTRA:
            raise
        msg = f"serving needs {missing}, which is not installed"
        raise EngineNotInstalledError(msg, hint='pip install "langchain-localhf[serve]"') from error
    return layout, running, settings


def _completed(named: dict[str, str], found: dict[str, str]) -> dict[str, str]:
    """The models that the user names, and for whatever else those of a folder."""
    if "clip" in named:  # what was found for its texts was made for another one
        found = {use: path for use, path in found.items() if use != "clip_text"}
    return found | named


def _tokens(given: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens on the command line, else those of the environment; an empty variable counts as none."""
    tokens = list(given)
    for variable in _TOKEN_VARIABLES:
        if not tokens and (text := os.environ.get(variable, "").strip()):
            tokens = [token.strip() for token in text.split(",")]
    for token in tokens:
        if not token or any(not "!" <= character <= "~" for character in token):
            msg = "a token is empty, or has other characters than ASCII's without spaces, so no client can send it"
            raise click.UsageError(msg)
    return tuple(tokens)


def _limits(limits: Limits, options: dict[str, Any]) -> Limits:
    stated = {
        "body_bytes": options["max_body_bytes"],
        "inputs": options["max_inputs"],
        "images": options["max_images"],
        "queue_tokens": options["max_waiting_tokens"],
    }
    changed = dataclasses.replace(limits, **{name: value for name, value in stated.items() if value is not None})
    return dataclasses.replace(changed, bodies_bytes=max(changed.bodies_bytes, changed.body_bytes))


def _say_ready(listener: socket.socket, models: Models, tokens: tuple[str, ...]) -> None:
    from langchain_localhf.server.listening import is_local, url_of  # noqa: PLC0415 - keeps `--help` fast

    say(f"serving at {url_of(listener)}: {', '.join(_described(models))}")
    if not tokens and not is_local(listener):
        say("note: there is no token, so whoever reaches this address may ask; only programs of yours should")


def _described(models: Models) -> Iterator[str]:
    """What each model is for, its name, and what runs it."""
    lanes = {"clip": models.images, "clip-text": models.clip_texts, "text": models.texts, "rerank": models.pairs}
    seen: list[object] = []
    for use, lane in lanes.items():
        if lane is not None and not any(lane.loaded is one for one in seen):
            seen.append(lane.loaded)
            yield f"{use} {lane.loaded.model.name} ({'openvino' if lane.loaded.is_compiled else 'torch'})"
