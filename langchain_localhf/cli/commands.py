"""The commands. Each imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from langchain_localhf.cli.application import FAILED, Application, interrupted_at_once
from langchain_localhf.cli.output import (
    give,
    give_compiled,
    give_differences,
    give_json,
    give_model,
    give_models,
    say,
    summary,
)
from langchain_localhf.cli.serving import serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_localhf.store.compilation import Precision
    from langchain_localhf.store.model_store import LocalModel

_NO_MODELS = "no models yet; bring one: localhf pull MODEL"
_LOCKFILE = "localhf.lock"  # as in store.lockfile, which is not imported before a command runs
_format = click.option(
    "--format", "output_format", type=click.Choice(["human", "json"]), default="human", show_default=True,
    help="How to print the result.",
)  # fmt: skip


_trust = click.option(
    "--trust-remote-code", is_flag=True, help="Bring, and run, the code of models that come with their own."
)


@click.group(cls=Application, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="langchain-localhf", prog_name="localhf", message="%(prog)s %(version)s")
def main() -> None:
    """Hugging Face models on this machine: pulled once, verified, used offline.

    Models live in LOCALHF_HOME, or in the user's cache folder. Only `pull` uses the network.
    """


@main.command()
@click.argument("models", nargs=-1, metavar="MODEL[@REVISION]...")
@click.option("--lock", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The lockfile to update.")
@click.option("--locked", is_flag=True, help=f"Bring exactly what the lockfile says ({_LOCKFILE}, or --lock FILE).")
@click.option("--compile", "compiled", is_flag=True, help="Compile each for OpenVINO, as `localhf compile` does.")
@_trust
@_format
def pull(
    models: tuple[str, ...],
    *,
    lock: Path | None,
    locked: bool,
    compiled: bool,
    trust_remote_code: bool,
    output_format: str,
) -> None:
    """Download models, verify every file, check that they are sound.

    MODEL is `org/name`, or `name` for one of sentence-transformers. What is here already is not fetched
    again. With --locked and no MODEL, all models of the lockfile are pulled.

    A model that needs code of its own is refused, and the error says whose code it is; read that, then use
    --trust-remote-code. It changes nothing for other models.

    Private models need a token: `hf auth login`, or HF_TOKEN. HF_ENDPOINT names another hub.
    """
    if not models and not locked:
        msg = "name a model, or use --locked to pull those of the lockfile"
        raise click.UsageError(msg)
    from langchain_localhf import engines, provisioning  # noqa: PLC0415 - keeps `--help` fast

    if compiled and not locked:  # what is locked may be here already, and compiled
        engines.require_compiling()  # before anything is downloaded
    with interrupted_at_once():
        pulled = provisioning.pull(
            *models, lock=lock, locked=locked, trust_remote_code=trust_remote_code, show_progress=True
        )
        if compiled:
            pulled = [
                provisioning.compile_model(model, trust_remote_code=trust_remote_code, show_progress=True)
                for model in pulled
            ]
    _give_new(pulled, output_format)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "name", required=True, metavar="NAME", help="The name to use it by: `org/name`, or `name`.")
@_trust
@_format
def add(path: Path, *, name: str, trust_remote_code: bool, output_format: str) -> None:
    """Copy a model from a folder, with the same checks as pull."""
    from langchain_localhf import provisioning  # noqa: PLC0415 - keeps `--help` fast

    _give_new([provisioning.add(path, name, trust_remote_code=trust_remote_code)], output_format)


@main.command("compile")
@click.argument("model")
@click.option(
    "--precision",
    type=click.Choice(["auto", "f32", "bf16", "int8", "int4"]),
    default="auto",
    show_default=True,
    help="What to calculate in; of a language model, what to keep its weights in.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Texts like yours, one a line, to learn the ranges of int8 from.",
)
@click.option("--force", is_flag=True, help="Compile a model that is compiled already.")
@_trust
@_format
def compile_command(
    model: str,
    *,
    precision: Precision,
    calibration: Path | None,
    force: bool,
    trust_remote_code: bool,
    output_format: str,
) -> None:
    """Compile a model for OpenVINO.

    It then runs without torch and without transformers. An embedding model becomes one graph. It is
    compared with torch, text by text, and not written if it gives other vectors. A language model is
    exported by `optimum-cli`, on the PATH or in LOCALHF_OPTIMUM_CLI.

    `auto` is bf16 on a processor that has it, and f32 elsewhere; for a language model int8 from a billion
    parameters on. int8 is faster and less exact: how much is measured on your texts, and its vectors do
    not mix with others in one collection. int4 is for language models only.
    """
    from langchain_localhf import provisioning  # noqa: PLC0415 - keeps `--help` fast

    texts = _lines_of(calibration) if calibration else []
    compiled = provisioning.compile_model(
        model,
        precision=precision,
        texts=texts,
        trust_remote_code=trust_remote_code,
        force=force,
        show_progress=True,
    )
    give_compiled(compiled, output_format)


@main.command()
@click.argument("models", nargs=-1, metavar="MODEL...", required=True)
@click.option(
    "--runtime",
    type=click.Choice(["openvino"]),
    default="openvino",
    show_default=True,
    help="What the copy is to run on.",
)
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="FOLDER",
    help="The store to copy to; it serves as a LOCALHF_HOME.",
)
@_format
def pack(models: tuple[str, ...], *, runtime: str, target: Path, output_format: str) -> None:
    """Copy compiled models without their weights.

    What is copied runs with `pip install "langchain-localhf[openvino]"` alone.
    """
    from langchain_localhf import provisioning  # noqa: PLC0415 - keeps `--help` fast

    packed = [provisioning.pack(model, target, runtime=runtime) for model in models]
    if output_format == "json":
        give_json([summary(model) for model in packed])
    else:
        for model in packed:
            give(str(model.folder))


@main.command("list")
@_format
def list_models(*, output_format: str) -> None:
    """List the models in the store."""
    from langchain_localhf import provisioning  # noqa: PLC0415 - keeps `--help` fast

    models = provisioning.models()
    give_models(models, output_format)
    if not models:
        say(_NO_MODELS)


@main.command()
@click.argument("model")
@_format
def show(model: str, *, output_format: str) -> None:
    """Show everything that is known about a model.

    MODEL is a name or a folder; what is shown is what the name finds at run time.
    """
    from langchain_localhf import provisioning  # noqa: PLC0415 - keeps `--help` fast

    give_model(provisioning.show(model), output_format)


@main.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--all", "every", is_flag=True, help="Verify every model in the store; so does naming none.")
@_format
@click.pass_context
def verify(context: click.Context, models: tuple[str, ...], *, every: bool, output_format: str) -> None:
    """Compare every file with what was pulled; works offline.

    Exits with 1 and lists each difference if there is one, and with 1 if there is nothing to compare.
    """
    if models and every:
        msg = "name models, or use --all"
        raise click.UsageError(msg)
    from langchain_localhf import provisioning  # noqa: PLC0415 - keeps `--help` fast

    chosen = [provisioning.show(name) for name in models] or provisioning.models()
    equal = give_differences(((model, provisioning.verify(model)) for model in chosen), output_format)
    if not chosen:
        say(_NO_MODELS)
    if not (equal and chosen):
        context.exit(FAILED)


@main.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--file", "path", type=click.Path(path_type=Path, dir_okay=False), default=Path(_LOCKFILE), show_default=True,
    help="The lockfile to write.",
)  # fmt: skip
@_format
def lock(models: tuple[str, ...], *, path: Path, output_format: str) -> None:
    """Write a lockfile of these models, or of all in the store.

    `localhf pull --locked` brings the same bytes to another machine.
    """
    from langchain_localhf import provisioning  # noqa: PLC0415 - keeps `--help` fast

    locked = provisioning.lock(path, models)
    if output_format == "json":
        give_json({"file": str(path), "models": [model.name for model in locked]})
    else:
        say(f"wrote {path}: {len(locked)} {'model' if len(locked) == 1 else 'models'}")


@main.command()
@click.argument("model")
@_format
def remove(model: str, *, output_format: str) -> None:
    """Delete a model from the store."""
    from langchain_localhf import provisioning  # noqa: PLC0415 - keeps `--help` fast

    removed = provisioning.remove(model)
    if output_format == "json":
        give_json(summary(removed))
    else:
        say(f"removed {removed.name}")


main.add_command(serve)


def _give_new(models: Sequence[LocalModel], output_format: str) -> None:
    from langchain_localhf.provisioning import is_checked  # noqa: PLC0415 - keeps `--help` fast

    for model in models:
        if not is_checked(model):
            say(
                f"note: {model.name} was verified but not loaded, because no engine is installed; "
                'pip install "langchain-localhf[torch]" and pull again to check it'
            )
    if output_format == "json":
        give_json([summary(model) for model in models])
    else:
        for model in models:
            give(str(model.folder))


def _lines_of(path: Path) -> list[str]:
    """The lines of a text file that say something."""
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        msg = f"{path} is no text in UTF-8: {error}"
        raise click.UsageError(msg) from error
