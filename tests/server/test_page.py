"""The page of the server, in a real browser."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from support import dual_encoders

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.server.models import Models
from langchain_localhf.server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx
    from support.servers import RunningServer

pytestmark = pytest.mark.loopback
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_PAGE_FILES = ("/", "/page/style.css", "/page/script.js")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chromium of this machine, without a window."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(_BROWSERS)} is installed")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page in a browser profile of its own."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def watched(page: Page, server: str) -> Iterator[Page]:
    """The server's page; it may ask for nothing outside of the server, and log no error."""
    requested: list[str] = []
    logged: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: logged.append(message.text))
    page.on("pageerror", lambda error: logged.append(str(error)))
    page.goto(server)
    expect(page.get_by_role("status")).to_have_text("Ready.")
    yield page
    assert [url for url in requested if not url.startswith((f"{server}/", f"blob:{server}/"))] == []
    assert logged == []


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A picture, as the bytes of a PNG file."""
    file = io.BytesIO()
    dual_encoders.picture(3).save(file, "PNG")
    return file.getvalue()


def ranking(page: Page, title: str) -> list[tuple[str, float]]:
    """The ranking that a part of the page shows."""
    items = page.get_by_role("region", name=title).get_by_role("listitem")
    expect(items.first).to_be_visible()
    shown = [item.locator("span").all_text_contents() for item in items.all()]
    return [(text, float(score)) for text, score in shown]


def captions_ranked_by(client: httpx.Client, captions: list[str], picture: bytes) -> list[tuple[str, float]]:
    """What the page should show, of the vectors that the server gives."""
    image = base64.b64encode(picture).decode()
    vectors = client.post("/vectorize", json={"texts": captions, "images": [image]}).json()
    texts, images = (np.asarray(vectors[name]) for name in ("textVectors", "imageVectors"))
    cosines = texts @ images[0] / np.linalg.norm(texts, axis=1) / np.linalg.norm(images[0])
    return sorted(zip(captions, cosines.round(4), strict=True), key=lambda entry: -entry[1])


def test_compare(watched: Page, minilm: Path) -> None:
    """Two texts are compared by the cosine of the vectors that `HuggingFaceEmbeddings` makes of them."""
    texts = ["The ferry leaves at nine.", "When does the boat go?"]
    watched.get_by_label("First text").fill(texts[0])
    watched.get_by_label("Second text").fill(texts[1])
    watched.get_by_role("button", name="Compare").press("Enter")
    shown = watched.get_by_role("region", name="Compare two texts").locator("strong")
    first, second = np.asarray(HuggingFaceEmbeddings(model_name=str(minilm)).embed_documents(texts))
    expect(shown).to_have_text(f"{first @ second:.4f}")


def test_choose_image(watched: Page, client: httpx.Client, picture: bytes) -> None:
    """Captions are ranked for an image that was chosen, which is shown."""
    captions = ["the harbour", "good weather", "tax filings"]
    file = {"name": "boat.png", "mimeType": "image/png", "buffer": picture}
    watched.get_by_label("Image", exact=True).set_input_files(file)
    expect(watched.get_by_alt_text("boat.png")).to_be_visible()
    watched.get_by_label("Captions, one on each line").fill("\n".join([*captions, "  ", ""]))
    watched.get_by_role("button", name="Rank captions").click()
    expected = captions_ranked_by(client, captions, picture)
    shown = ranking(watched, "Rank captions for an image")
    assert shown == [(text, pytest.approx(cosine, abs=1e-4)) for text, cosine in expected]


def test_drop_image(watched: Page, client: httpx.Client, picture: bytes) -> None:
    """The same for an image that was dropped."""
    make = """encoded => {
        const bytes = Uint8Array.from(atob(encoded), character => character.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
        return transfer;
    }"""
    transfer = watched.evaluate_handle(make, base64.b64encode(picture).decode())
    watched.locator("#drop").dispatch_event("dragover", {"dataTransfer": transfer})
    watched.locator("#drop").dispatch_event("drop", {"dataTransfer": transfer})
    expect(watched.get_by_alt_text("dropped.png")).to_be_visible()
    watched.get_by_label("Captions, one on each line").fill("the harbour\nthe weather")
    watched.get_by_role("button", name="Rank captions").click()
    best, *_ = captions_ranked_by(client, ["the harbour", "the weather"], picture)
    assert ranking(watched, "Rank captions for an image")[0] == (best[0], pytest.approx(best[1], abs=1e-4))


def test_rank_documents(watched: Page, client: httpx.Client) -> None:
    """Documents are ranked for a query, by the scores of the cross-encoder."""
    documents = ["the weather is nice", "tax filings are due", "the harbour"]
    watched.get_by_label("Query", exact=True).fill("the weather")
    watched.get_by_label("Documents, one on each line").fill("\n".join(documents))
    watched.get_by_label("Query", exact=True).press("Enter")
    scores = client.post("/rerank", json={"query": "the weather", "texts": documents}).json()
    expected = [(documents[entry["index"]], pytest.approx(entry["score"], abs=1e-4)) for entry in scores]
    assert ranking(watched, "Rank documents for a query") == expected


def test_models(watched: Page, minilm: Path, clip: Path, reranker: Path) -> None:
    """The page shows what is served, and what identifies the vectors."""
    rows = watched.get_by_role("region", name="Models").get_by_role("row")
    assert [row.get_by_role("rowheader").text_content() for row in rows.all()[1:]] == [
        minilm.name,
        clip.name,
        reranker.name,
    ]
    fingerprint = HuggingFaceEmbeddings(model_name=str(minilm)).fingerprint
    expect(rows.nth(1)).to_contain_text(f"texts384256{fingerprint[:12]}")


def test_only_what_is_served(page: Page, minilm: Path, serving: Callable[..., RunningServer]) -> None:
    """The page offers nothing that the server cannot do."""
    page.goto(serving(ServerSettings(text=str(minilm))).url)
    expect(page.get_by_role("region", name="Compare two texts")).to_be_visible()
    expect(page.get_by_role("region", name="Rank")).to_have_count(0)


def test_error_in_words(page: Page, server: str) -> None:
    """What the server says of a bad input is shown, as text; and the next try works."""
    page.goto(server)
    file = {"name": "<b>broken</b>.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.get_by_label("Image", exact=True).set_input_files(file)
    page.get_by_role("button", name="Rank captions").click()
    expect(page.get_by_role("alert")).to_contain_text("images[0]")
    page.get_by_label("Query", exact=True).fill("<img src=x>")
    page.get_by_label("Documents, one on each line").fill("<script>alert(1)</script>")
    page.get_by_role("button", name="Rank documents").click()
    [(text, _)] = ranking(page, "Rank documents for a query")
    assert text == "<script>alert(1)</script>"


def test_token(page: Page, minilm: Path, serving: Callable[..., RunningServer]) -> None:
    """A server that asks for a token is used with one that is typed in; the page itself needs none."""
    page.goto(serving(ServerSettings(text=str(minilm), tokens=("open sesame",))).url)
    expect(page.get_by_role("status")).to_have_text("The server asks for a token.")
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type("guess")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The server does not know this token.")
    page.get_by_label("Token").fill("open sesame")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Ready.")
    expect(page.get_by_label("Token")).to_be_hidden()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".similarity strong")).to_have_text(re.compile(r"0\.\d{4}"))


def test_models_are_being_loaded(
    page: Page, minilm: Path, serving: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is there before the models are, and goes on by itself when they come."""
    released, load = threading.Event(), Models.load

    def held(*arguments: object) -> Models:
        assert released.wait(30)
        return load(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Models, "load", held)
    page.goto(serving(ServerSettings(text=str(minilm)), until_ready=False).url)
    expect(page.get_by_role("status")).to_have_text("Not ready: the models are being loaded")
    released.set()
    expect(page.get_by_role("status")).to_have_text("Ready.")


def test_narrow(watched: Page) -> None:
    """On a telephone the page is read without scrolling sideways."""
    watched.set_viewport_size({"width": 320, "height": 640})
    assert watched.evaluate("document.documentElement.scrollWidth") <= 320


def test_policy(client: httpx.Client, page: Page, server: str) -> None:
    """The browser is told to run and ask nothing but what the server sent, and holds to it."""
    for path in _PAGE_FILES:
        reply = client.get(path)
        assert reply.status_code == 200
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
    page.goto(server)
    add = "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))"
    blocked = "new Promise(resolve => addEventListener('securitypolicyviolation', e => resolve(e.effectiveDirective)))"
    assert page.evaluate(f"() => {{ const seen = {blocked}; {add}; return seen; }}") == "script-src-elem"
    assert page.evaluate("window.ran") is None
