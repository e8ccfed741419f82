"""What the commands print: for people, or as JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from langchain_localhf.store.compilation import Compilation
    from langchain_localhf.store.manifest import Differences, Manifest
    from langchain_localhf.store.model_store import LocalModel

_COMMIT_DIGITS = 12
_NONE = "-"


def say(text: str) -> None:
    """Prints a status line or an error, on stderr."""
    _print(text, sys.stderr)


def give(text: str) -> None:
    """Prints data, on stdout."""
    _print(text, sys.stdout)


def give_json(data: object) -> None:
    """Prints data as JSON, on stdout, in ASCII."""
    give(json.dumps(data, indent=2))


def give_models(models: Sequence[LocalModel], output_format: str) -> None:
    """Prints one line a model, with a heading if there is one."""
    if output_format == "json":
        give_json([summary(model) for model in models])
    elif models:
        rows = [("NAME", "COMMIT", "SIZE", "DIMENSION", "CHECKED", "CODE", "COMPILED"), *map(_row, models)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            give("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def give_model(model: LocalModel, output_format: str) -> None:
    """Prints everything that is known about a model."""
    if output_format == "json":
        manifest = model.manifest.model_dump(mode="json") if model.manifest else None
        give_json({**summary(model), "manifest": manifest})
        return
    facts = _facts(model)
    width = max(map(len, facts))
    for label, text in facts.items():
        first, *more = text.splitlines() or [""]
        give(f"{label.ljust(width)}  {first}")
        for line in more:
            give(f"{' ' * width}  {line}")
    for entry in model.manifest.present if model.manifest else ():
        give(f"  {entry.sha256}  {entry.size_bytes:>12}  {entry.path}")


def give_compiled(model: LocalModel, output_format: str) -> None:
    """Prints where a compiled model is, and, on stderr, how near it is to torch."""
    compiled = model.manifest.compiled if model.manifest else None
    if output_format == "json":
        give_json({**summary(model), "compilation": compiled and compiled.model_dump(mode="json")})
        return
    for line in _parity(compiled) if compiled else ():
        say(f"  {line}")
    give(str(model.folder))


def give_differences(results: Iterable[tuple[LocalModel, Differences]], output_format: str) -> bool:
    """Prints how each model differs from its manifest.

    Returns:
        Whether all of them are as they should be.
    """
    reports: list[dict[str, Any]] = []
    for model, differences in results:
        kinds = {"changed": differences.changed, "missing": differences.missing, "extra": differences.extra}
        reports.append({"name": model.name, "folder": str(model.folder), "ok": not differences, **kinds})
        if output_format == "human":
            give(f"{'differs' if differences else 'ok'}  {model.name}")
            for kind, paths in kinds.items():
                for path in paths:
                    give(f"  {kind}  {path}")
    if output_format == "json":
        give_json(reports)
    return all(report["ok"] for report in reports)


def summary(model: LocalModel) -> dict[str, Any]:
    """A model in a few facts, as plain data."""
    manifest = model.manifest
    return {
        "name": model.name,
        "folder": str(model.folder),
        "source": manifest and manifest.source,
        "revision": manifest and manifest.revision,
        "commit": manifest and manifest.commit,
        "size_bytes": manifest and manifest.size_bytes,
        "dimension": manifest and manifest.encoder and manifest.encoder.dimension,
        "fingerprint": manifest and manifest.fingerprint,
        "checked": bool(manifest and manifest.check),
        "compiled": manifest and manifest.compiled and manifest.compiled.precision,
        "packed": bool(manifest and manifest.packed),
        "trust_remote_code": bool(manifest and manifest.trust_remote_code),
    }


def _row(model: LocalModel) -> tuple[str, ...]:
    from langchain_localhf.store.disk import formatted_size  # noqa: PLC0415 - keeps `--help` fast

    facts = summary(model)
    commit = (facts["commit"] or _NONE)[:_COMMIT_DIGITS]
    size = _NONE if facts["size_bytes"] is None else formatted_size(facts["size_bytes"])
    checked, code = "yes" if facts["checked"] else "no", "trusted" if facts["trust_remote_code"] else _NONE
    dimension, compiled = str(facts["dimension"] or _NONE), facts["compiled"] or _NONE
    return (model.name, commit, size, dimension, checked, code, compiled)


def _facts(model: LocalModel) -> dict[str, str]:
    from langchain_localhf.store.disk import formatted_size  # noqa: PLC0415 - keeps `--help` fast

    facts = {"name": model.name, "folder": str(model.folder)}
    manifest = model.manifest
    if manifest is None:
        return facts | {"manifest": f"{_NONE} (neither pulled nor added, so its files cannot be verified)"}
    commit = f"{manifest.commit} ({manifest.revision})" if manifest.commit else _NONE
    facts |= {
        "source": manifest.source,
        "commit": commit,
        "size": f"{formatted_size(manifest.size_bytes)} in {len(manifest.files)} files",
        "fingerprint": manifest.fingerprint or _NONE,
    }
    if encoder := manifest.encoder:
        facts |= {
            "dimension": str(encoder.dimension),
            "max tokens": str(encoder.max_seq_length or _NONE),
            "pooling": "+".join(encoder.pooling) + (", normalized" if encoder.normalized else ""),
            "prompts": ", ".join(f"{name}={text!r}" for name, text in encoder.prompts.items()) or _NONE,
        }
    if check := manifest.check:
        facts["checked"] = "with " + ", ".join(f"{name} {version}" for name, version in check.versions.items())
        if check.unused_weights:
            facts["unused"] = ", ".join(check.unused_weights)
    else:
        facts["checked"] = "no"
    if compiled := manifest.compiled:
        made = ", ".join(f"{name} {version}" for name, version in compiled.versions.items())
        alone = "; its weights were left behind" if manifest.packed else ""
        lines = [f"openvino, {compiled.precision}{alone}, with {made}", *_parity(compiled)]
        facts["compiled"] = "\n".join(lines)
    if manifest.trust_remote_code:
        facts["code"] = "\n".join(["trusted", *_code(manifest)])
    return facts


def _parity(compiled: Compilation) -> Iterator[str]:
    """How near a graph is to torch, one line a precision; of a dual encoder two, for texts and for images."""
    for parity in compiled.parity:
        what = parity.precision if parity.of == "texts" else f"{parity.precision}, {parity.of}"
        kept = "" if parity.neighbours_kept is None else f", {parity.neighbours_kept:.1%} of the ten nearest kept"
        yield (
            f"{what}: cosine to torch {parity.mean_cosine:.6f} on average, {parity.lowest_cosine:.6f} at "
            f"least{kept}; alone or in a batch {parity.batch_difference:.0e}"
        )
    for scores in compiled.score_parity:
        yield (
            f"{scores.precision}: scores differ from torch's by {scores.largest_difference:.0e} at most, "
            f"{scores.order_kept:.1%} in the same order; alone or in a batch {scores.batch_difference:.0e}"
        )


def _code(manifest: Manifest) -> Iterator[str]:
    """Whose code a model has, and which files; one line a repository."""
    from langchain_localhf.checkpoint.code import repository_of  # noqa: PLC0415 - keeps `--help` fast
    from langchain_localhf.store.files import is_code  # noqa: PLC0415 - as above

    places = [repository_of(path) for path in manifest.hashes if is_code(path)]
    for repository in sorted({repository for repository, _ in places}):
        commit = manifest.commits.get(repository)
        whose = repository or "its own repository"
        files = ", ".join(path for owner, path in places if owner == repository)
        yield f"{whose}{f' at commit {commit}' if commit else ''}: {files}"


def _print(text: str, stream: TextIO | None) -> None:
    # A model card may hold any character, and a terminal may know only some; none of them is worth a crash.
    encoding = getattr(stream, "encoding", None) or "ascii"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)
