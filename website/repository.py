"""Hooks of MkDocs: the README, the examples and the notebooks are pages, and links lead from page to page.

Every text is written once, where a reader of the repository finds it, and its links lead from file to file. A file is
in the site where it is in the repository; only the folder `docs` is left out of its path, and a notebook is a page of
Markdown. A link to a file that is no page becomes text that names the file.
"""  # noqa: INP001 - MkDocs loads it by its path

from __future__ import annotations

import logging
import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "examples/**/README.md"),
    *("notebooks/README.md", "notebooks/*.ipynb"),
)
# Code comes first, so that what looks like a link in it stays as it is.
LINK = re.compile(
    r"""(?P<code>^[ ]*(?P<fence>`{3,}|~{3,}).*?^[ ]*(?P=fence)|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))
    |(?<!!)\[(?P<label>[^\[\]]*)\]\((?P<target>[^()\s]+)\)
    |!\[[^\[\]]*\]\((?P<picture>[^()\s]+)\)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
ELSEWHERE = re.compile(r"[a-z]+:|#|/")  # on the web, or on the same page
# What a search shows last: these pages have many words by the way.
BY_THE_WAY = re.compile(r"adr/|benchmarks|notebooks/|CHANGELOG|CONTRIBUTING")
# A name below that of MkDocs, so that a warning fails a strict build.
log = logging.getLogger("mkdocs.plugins.repository")


def on_config(config: MkDocsConfig) -> None:
    """Puts the pages of a folder into the navigation, where it names the folder."""
    config.nav = _with_folders(config.nav)


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Adds the pages that are not in `docs`."""
    for source in _sources():
        if source.suffix == ".ipynb":
            for place, content in _of_notebook(source):
                files.append(File.generated(config, place, content=content))
        else:
            files.append(File.generated(config, _place_of(_path_of(source)), abs_src_path=str(source)))


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - as MkDocs calls it
    """Turns the links between files of the repository into links between pages."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # it would list this page alone
    if BY_THE_WAY.match(page.file.src_uri):
        page.meta["search"] = {"boost": 0.2}
    return LINK.sub(lambda link: _turned(link, page.file.src_uri, files), markdown)


def _turned(link: re.Match[str], page: str, files: Files) -> str:
    address = link["target"] or link["picture"]
    if link["code"] or ELSEWHERE.match(address):
        return link[0]
    source = _source_of(page)
    path, hash_sign, anchor = address.partition("#")
    path = normpath(f"{dirname(source)}/{path}".lstrip("/"))
    path = f"{path}/README.md" if (ROOT / path / "README.md").is_file() else path
    place = _place_of(path)
    is_drawn = link["picture"] and source.endswith(".ipynb")  # a notebook holds its pictures
    is_here = is_drawn or (ROOT / path).exists()
    if is_here and files.get_file_from_path(place) is not None:
        new = relpath(place, dirname(page) or ".")
        return link[0].removesuffix(f"{address})") + f"{new}{hash_sign}{anchor})"
    if is_here and link["target"]:
        return _named(link["label"], path)
    log.warning("%s links to %s, which is not in the repository", source, address)
    return link[0]


def _with_folders(item: Any) -> Any:  # noqa: ANN401 - the tree of YAML that MkDocs reads
    if isinstance(item, dict):
        return {title: _with_folders(value) for title, value in item.items()}
    if isinstance(item, list):
        return [page for value in item for page in (_pages_in(value) if _is_folder(value) else [_with_folders(value)])]
    return _pages_in(item) if _is_folder(item) else item


def _is_folder(item: object) -> bool:
    return isinstance(item, str) and item.endswith("/")


def _pages_in(folder: str) -> list[str]:
    """The pages of a folder of the site and of the folders in it, those about a whole folder first."""
    paths = [_path_of(path) for path in (*_sources(), *(ROOT / "docs").rglob("*.md"))]
    pages = [_place_of(path) for path in paths if _place_of(path).startswith(folder)]
    return sorted(pages, key=lambda page: (page != f"{folder}README.md", page))


def _sources() -> list[Path]:
    """The files outside of `docs` that are pages."""
    return sorted(path for pattern in PAGES for path in ROOT.glob(pattern))


def _path_of(source: Path) -> str:
    return source.relative_to(ROOT).as_posix()


def _place_of(path: str) -> str:
    """Where a file of the repository is in the site."""
    return re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))


def _source_of(place: str) -> str:
    """The file of the repository that a page of the site is made of."""
    candidates = (f"docs/{place}", place, re.sub(r"\.md$", ".ipynb", place))
    return next(path for path in candidates if (ROOT / path).is_file())


def _of_notebook(source: Path) -> Iterator[tuple[str, str | bytes]]:
    """The page of a notebook as it was committed, and its pictures."""
    resources = {"unique_key": source.stem, "output_files_dir": source.stem}
    exporter = MarkdownExporter()  # type: ignore[no-untyped-call]
    markdown, made = exporter.from_filename(str(source), resources=resources)
    yield _place_of(_path_of(source)), markdown
    for name, content in made["outputs"].items():
        yield f"{_path_of(source.parent)}/{name}", content


def _named(label: str, path: str) -> str:
    """The words of a link to a file that is no page, and its path where the words are not its name."""
    return f"`{path}`" if path.endswith(label.strip("`")) else f"{label} (`{path}`)"
