"""The site is built as `make docs` does; its pages hold what the code offers, and nothing comes from elsewhere."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from mkdocs.structure.files import File, Files

import langchain_localhf
from langchain_localhf import embeddings, provisioning, vectorstores
from langchain_localhf.cli import main
from langchain_localhf.cli.application import DONE, FAILED, INTERRUPTED, MISUSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

ROOT = Path(__file__).parent.parent
# What a browser fetches to show a page; a link is fetched only by whoever follows it.
ASSETS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
POINTING = {"canonical", "next", "prev"}  # links in the head that nothing is fetched for


class Page(HTMLParser):
    """What a page links to, what it fetches, its anchors, and its text.

    Attributes:
        links: Where its links lead.
        assets: What it is shown with.
        anchors: The places that can be linked to.
        text: All of its text.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what the tag leads to."""
        stated = {name: value or "" for name, value in attrs}
        self.anchors.update(stated[name] for name in ("id", "name") if name in stated)
        if tag == "a" and "href" in stated:
            self.links.append(stated["href"])
        if tag in ASSETS and ASSETS[tag] in stated and stated.get("rel") not in POINTING:
            self.assets.append(stated[ASSETS[tag]])

    def handle_data(self, data: str) -> None:
        """Notes the text."""
        self.text += data


def build(target: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Builds the site into a folder."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target), *options]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    target = tmp_path_factory.mktemp("site")
    done = build(target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """The pages of the site, by their paths in it."""
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def commands(command: click.Command, name: str = "localhf") -> Iterator[tuple[str, click.Command]]:
    """A command and those below it, by what one types."""
    yield name, command
    for part, below in sorted(getattr(command, "commands", {}).items()):
        yield from commands(below, f"{name} {part}")


@pytest.mark.parametrize(("name", "command"), [pytest.param(*pair, id=pair[0]) for pair in commands(main)])
def test_command(pages: dict[str, Page], name: str, command: click.Command) -> None:
    """The page of the command line has each command with all of its options and their help."""
    page = pages["reference/cli.html"]
    assert name.replace(" ", "-") in page.anchors
    _, _, section = page.text.partition(f"\n{name}¶")
    words = section.partition("¶")[0].split()
    for option in (parameter for parameter in command.params if parameter.param_type_name == "option"):
        assert {word.strip(",") for word in words} >= set(option.opts), option.name
        assert option.help, f"{option.name} needs a help text"
        assert " ".join(option.help.split()) in " ".join(words), option.name


def test_exit_codes(pages: dict[str, Page]) -> None:
    """The page of the command line lists every exit code."""
    table = pages["reference/cli.html"].text.partition("exit code")[2].partition("¶")[0]
    assert {int(word) for word in table.split() if word.isdigit()} == {DONE, FAILED, MISUSED, INTERRUPTED}


@pytest.mark.parametrize("module", [langchain_localhf, embeddings, provisioning, vectorstores])
def test_public_names(pages: dict[str, Page], module: Any) -> None:
    """Every public name has a place in the reference, under a module that it can be imported from."""
    anchors = [anchor for path, page in pages.items() if path.startswith("reference/") for anchor in page.anchors]
    places = {name: [anchor for anchor in anchors if anchor.endswith(f".{name}")] for name in module.__all__}
    described = {
        name: [getattr(import_module(place.rpartition(".")[0]), name) for place in places[name]] for name in places
    }
    assert [name for name in described if getattr(module, name) not in described[name]] == []


def test_inherited_fields(pages: dict[str, Page]) -> None:
    """Fields that a class has from another one of this package are described with it."""
    fields = set(embeddings.CLIPEmbeddings.model_fields)
    anchors = pages["reference/embeddings.html"].anchors
    assert [name for name in fields if f"langchain_localhf.CLIPEmbeddings.{name}" not in anchors] == []


def test_nothing_from_elsewhere(pages: dict[str, Page], site: Path) -> None:
    """A page needs no other server: its scripts, styles, fonts and pictures are files of the site, and are there."""
    for path, page in pages.items():
        base = site if path == "404.html" else (site / path).parent  # 404 is shown at any address
        missing = [asset for asset in page.assets if not asset.startswith("data:") and not at(base, asset).is_file()]
        assert missing == [], path
        assert len(page.assets) > 2
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8").replace("'", "").replace('"', ""), style


def test_search(site: Path) -> None:
    """Words of code are found, and pages that have many words by the way come last."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    words = re.split(index["config"]["separator"], 'chat.stream(text, stop=["."]) 3.14')
    assert words == ["chat", "stream", "text", "stop", "3.14"]
    boosted = {page["location"].partition("#")[0]: page.get("boost", 1) for page in index["docs"]}
    assert boosted["notebooks/streaming.html"] == boosted["CHANGELOG.html"] < boosted["guides/chat.html"]


def test_links(pages: dict[str, Page], site: Path) -> None:
    """Every link inside of the site leads to a page that is there, and to a place on it."""
    seen = 0
    for path, page in pages.items():
        for link in page.links:
            address, _, anchor = link.partition("#")
            if ":" in address or path == "404.html":
                continue
            target = (site / path).parent / address if address else site / path
            assert target.is_file(), (path, link)
            if anchor and target.suffix == ".html":
                assert anchor in pages[os.path.relpath(target, site)].anchors, (path, link)
            seen += 1
    assert seen > 1000


def test_markdown(pages: dict[str, Page], site: Path) -> None:
    """Lists, tables and code are shown as such, though the site reads Markdown in another way than a code host."""
    unread = re.compile(r"<p>(?:[^<]|<(?!/p>))*^ *(?:[-*+] |\d+\. |\||```)", re.MULTILINE)
    assert [path for path in pages if unread.search((site / path).read_text(encoding="utf-8"))] == []


def test_every_notebook_and_example_is_a_page(pages: dict[str, Page], site: Path) -> None:
    """Notebooks with their outputs and pictures, and the READMEs of the examples, are pages of the site."""
    assert any(asset.startswith("pictures/") for asset in pages["notebooks/pictures.html"].assets)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        page = pages[f"notebooks/{path.stem}.html"]
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        drawn = sum("image/png" in output.get("data", {}) for output in outputs)
        assert len([asset for asset in page.assets if asset.startswith(f"{path.stem}/")]) == drawn
        for output in outputs:
            assert " ".join("".join(output.get("text", "")).split()) in " ".join(page.text.split())
    for path in (ROOT / "examples").glob("*/README.md"):
        assert f"examples/{path.parent.name}/index.html" in pages
        assert f"{path.parent.name}/index.html" in pages["examples/index.html"].links


def test_decisions() -> None:
    """The index of the decisions links to each of them."""
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(folder.glob("0*.md")) if f"]({path.name})" not in index] == []


REPOSITORY = runpy.run_path(str(ROOT / "website" / "repository.py"))


@pytest.mark.parametrize(
    ("place", "written", "shown"),
    [
        ("guides/chat.md", "[that](../concepts/offline.md#order)", "[that](../concepts/offline.md#order)"),
        (
            "README.md",
            "[chat](docs/guides/chat.md) ![plot](docs/benchmarks.json)",
            "[chat](guides/chat.md) ![plot](benchmarks.json)",
        ),
        ("guides/chat.md", "[docker](../../examples/docker)", "[docker](../examples/docker/README.md)"),
        ("notebooks/rag.md", "[chat](../docs/guides/chat.md)", "[chat](../guides/chat.md)"),
        ("README.md", "[`demo.py`](examples/demo.py)", "`examples/demo.py`"),
        (
            "README.md",
            "[a\nscript](examples/demo.py), [two](CHANGELOG.md)",
            "a\nscript (`examples/demo.py`), [two](CHANGELOG.md)",
        ),
        ("README.md", "[web](https://example.org) [here](#use)", "[web](https://example.org) [here](#use)"),
        ("README.md", "`[x](docs/guides/chat.md)`", "`[x](docs/guides/chat.md)`"),
        ("README.md", "```md\n[x](docs/guides/chat.md)\n```", "```md\n[x](docs/guides/chat.md)\n```"),
    ],
)
def test_links_of_the_repository(place: str, written: str, shown: str) -> None:
    """A link from file to file becomes one from page to page; to a file that is no page, its words and its name."""
    assert turned(place, written) == shown


@pytest.mark.parametrize("written", ["[x](docs/guides/none.md)", "[x](guides/chat.md)", "![x](examples/demo.py)"])
def test_broken_link(caplog: pytest.LogCaptureFixture, written: str) -> None:
    """A link that leads nowhere in the repository is a warning, and fails a build, even if it would do in the site."""
    assert turned("README.md", written) == written
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def turned(place: str, markdown: str) -> str:
    """What the hook makes of the text of a page."""
    places = [
        "guides/chat.md",
        "concepts/offline.md",
        "benchmarks.json",
        "README.md",
        "CHANGELOG.md",
        "examples/docker/README.md",
    ]
    files = Files([File(one, "docs", "site", use_directory_urls=False) for one in places])
    page = SimpleNamespace(file=SimpleNamespace(src_uri=place), is_homepage=False, meta={})
    shown: str = REPOSITORY["on_page_markdown"](markdown, page=page, config=None, files=files)
    return shown


def at(folder: Path, address: str) -> Path:
    """The file that an address means, for a browser that looks at a page in `folder`."""
    return folder / address.partition("?")[0].partition("#")[0].removeprefix("/")
