"""The benchmark measures and writes what it measured; what it measures on this machine does not matter here."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DOCS = BENCHMARKS.parent / "docs"
SVG = "{http://www.w3.org/2000/svg}"
SETTINGS = {"chunks": 100, "long_chunks": 50, "queries": 5, "rounds": 3, "starts": 2, "prompts": 4, "new_tokens": 8}
NAMES = ("langchain_huggingface, torch", "localhf, OpenVINO f32")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a file of the benchmark as Python does when one of them is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return import_module(name)

    return load


@pytest.fixture
def page(tmp_path: Path, script: Any) -> Path:
    """A page with a place for the table."""
    report = script("report")
    path = tmp_path / "docs" / report.PAGE
    path.parent.mkdir()
    begin, end = script("marks").marks(report.MARK)
    path.write_text(f"# Before\n\n{begin}\nan old table\n{end}\n\n# After\n", encoding="utf-8")
    return path


def row(**changes: Any) -> dict[str, Any]:
    """What is measured of one who embeds."""
    figures = {name: [2.0, 2.0, 2.0] for name in ("starts", "mixed", "long", "query_p50", "query_p95")}
    closeness = {"lowest_cosine": 1.0, "neighbours_kept": 1.0}
    return {**figures, "memory": 900.0, "size": 2000.0, "versions": {"torch": "2"}, **closeness, **changes}


def results(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """What a run with two contestants gives."""
    limit = {"operations": 1e9, "rates": {"f32": 100e9, "bf16": 200e9}}
    return {
        "date": "2026-01-01",
        "machine": {"processor": "tested"},
        "settings": SETTINGS,
        "embeddings": {"contestants": dict(zip(NAMES, (theirs, ours), strict=True)), "limit": limit},
    }


def test_a_quick_run_measures_real_workers_and_fills_the_page(
    tiny: Path, tmp_path: Path, page: Path, script: Any
) -> None:
    """A contestant is compiled, started, asked and compared with sentence-transformers, in its environment."""
    (tmp_path / "venv-bench-localhf").symlink_to(sys.prefix)
    words = ["--quick", "--embed", "OpenVINO f32", "--generate", "", "--model", str(tiny)]
    script("bench").main([*words, "--environments", str(tmp_path / "venv"), "--docs", str(page.parent)])
    written = page.read_text(encoding="utf-8")
    assert written.startswith("# Before\n")
    assert written.endswith("# After\n")
    assert "an old table" not in written
    figures = json.loads((page.parent / "benchmarks.json").read_text(encoding="utf-8"))
    rows = figures["embeddings"]["contestants"]
    assert list(rows) == ["localhf, OpenVINO f32"]
    assert "\n| localhf, OpenVINO f32 | " in written
    assert rows["localhf, OpenVINO f32"]["lowest_cosine"] > 0.99999
    assert len(rows["localhf, OpenVINO f32"]["mixed"]) == 2
    assert len(list(page.parent.glob("benchmarks-*.svg"))) == 2
    assert "![How many chunks each embeds in a second](benchmarks-embedding.svg)" in written


def test_the_table_says_how_many_times_better_each_is_than_the_baseline(script: Any) -> None:
    """Half the time is twice as good, and so is half the memory."""
    text = script("report").text(results(row(), row(mixed=[1.0, 1.0, 1.0], memory=450.0)))
    ours = next(line for line in text.splitlines() if line.startswith("| localhf, OpenVINO f32"))
    assert "| 100.0 (2.0) |" in ours
    assert "| 450 (2.0) |" in ours


def test_a_figure_whose_rounds_disagree_is_marked(script: Any) -> None:
    """Only the figure in doubt gets the mark."""
    text = script("report").text(results(row(mixed=[2.0, 2.0, 3.0]), row()))
    theirs = next(line for line in text.splitlines() if line.startswith("| langchain_huggingface, torch"))
    assert "| 50.0\\* | 25.0 |" in theirs


def test_targets_that_are_missed_are_called_so(script: Any) -> None:
    """A target is reached from its very value on."""
    least = {title: (wanted, measured) for title, wanted, measured in script("report").targets(results(row(), row()))}
    assert least[f"mixed chunks/s, {NAMES[1]}, times better than {NAMES[0]}"] == (1.5, 1.0)
    assert least[f"percent of the machine's limit, {NAMES[1]}"] == (75, pytest.approx(25.0))
    text = script("report").text(results(row(mixed=[3.0]), row(mixed=[2.0])))
    assert f"| mixed chunks/s, {NAMES[1]}, times better than {NAMES[0]} | 1.5 | 1.50 | reached |" in text
    assert f"| percent of the machine's limit, {NAMES[1]} | 75 | 25.0 | **not reached** |" in text


def test_a_page_without_a_place_is_left_alone(page: Path, script: Any) -> None:
    """Text that somebody wrote is never lost."""
    page.write_text("# Mine\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no place for the table"):
        script("report").write(results(row(), row()), page.parent)
    assert page.read_text(encoding="utf-8") == "# Mine\n"


def test_a_readme_without_a_place_is_left_alone(page: Path, tmp_path: Path, script: Any) -> None:
    """So is a README."""
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no place for the table"):
        script("report").write(results(row(), row()), page.parent, readme)
    assert readme.read_text(encoding="utf-8") == "# Mine\n"


def test_the_documentation_is_what_was_measured(script: Any) -> None:
    """The tables of the page and of the README, and every plot, are made of the committed figures."""
    report, serving, part = script("report"), script("serving_report"), script("marks").part
    figures, served = (json.loads((DOCS / one.FIGURES).read_text(encoding="utf-8")) for one in (report, serving))
    assert part(DOCS / report.PAGE, report.MARK) == report.text(figures)
    assert part(DOCS / serving.PAGE, serving.MARK) == serving.text(served)
    assert part(DOCS.parent / "README.md", report.README_MARK) == report.short(figures)
    plots = report.drawings(figures) | {serving.PLOT: serving.drawing(served)}
    assert {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.svg")} == plots


def test_a_plot_is_well_formed_and_true_to_scale(script: Any) -> None:
    """Half the value is half the bar; names and figures are text, whatever signs are in them."""
    plots = script("plots")
    panel = plots.Panel("Ships & boats", "more is better", [plots.Bar("<ours>", 2, "2", ours=True)])
    panel.bars.append(plots.Bar("theirs", 1, "1*", ours=False))
    drawing = ET.fromstring(plots.bars(panel, panel))  # noqa: S314 - our own
    bars = [one for one in drawing.iter(f"{SVG}rect") if one.get("class") in ("ours", "theirs")]
    widths = [float(one.attrib["width"]) for one in bars]
    assert [one.get("class") for one in bars] == ["ours", "theirs"] * 2
    assert widths[0] == pytest.approx(2 * widths[1])
    words = ["".join(one.itertext()) for one in drawing.iter(f"{SVG}text")]
    assert words[:5] == ["Ships & boatsmore is better", "<ours>", "2", "theirs", "1*"]


def test_a_worker_that_fails_says_why(script: Any) -> None:
    """What it wrote on its standard error is in the message."""
    protocol = script("protocol")
    settings = {"library": "unheard-of", "arguments": {}}
    with (
        protocol.Worker(Path(sys.executable), "embedding_worker.py", settings) as worker,
        pytest.raises(SystemExit, match="KeyError: 'unheard-of'"),
    ):
        worker.ask("first", text="hello")


def test_the_corpus_is_real_different_and_the_same_each_time(script: Any) -> None:
    """A thousand chunks, others to calibrate with, and prompts of which no two begin alike."""
    corpus = script("corpus")
    chunks, calibration = corpus.mixed(1000, 100)
    assert (chunks, calibration) == corpus.mixed(1000, 100)
    assert len({*chunks, *calibration}) == 1100
    assert max(map(len, chunks)) <= 1500
    assert all(700 < len(chunk) <= corpus.LONG for chunk in corpus.long(50))
    prompts = [prompt for batch in corpus.prompts(4, 32) for prompt in batch]
    assert len(set(prompts)) == len(prompts) == 128


def test_closeness_sees_vectors_and_neighbours(script: Any) -> None:
    """Twice the length changes nothing; one vector that points elsewhere is the lowest cosine."""
    closeness = script("embeddings").closeness
    truth = np.random.default_rng(0).standard_normal((40, 8))
    same = closeness(2 * truth, truth)
    assert same == {"lowest_cosine": pytest.approx(1), "neighbours_kept": 1}
    changed = truth.copy()
    changed[3] *= -1
    assert closeness(changed, truth)["lowest_cosine"] == pytest.approx(-1)
    assert closeness(changed, truth)["neighbours_kept"] < 1


def test_every_product_of_a_text_is_counted(tmp_path: Path, tiny: Path, script: Any) -> None:
    """Four square products and two with the inner width a layer, and two of attention a pair of tokens."""
    (tmp_path / "texts.json").write_text(json.dumps(["the weather is nice"]), encoding="utf-8")
    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3}
    tokenizer = {"tokenizer": str(tiny / "tokenizer.json"), "max_tokens": 5}
    counted = script("gemm_worker").operations(shape, path=str(tmp_path / "texts.json"), **tokenizer)
    assert counted == 2 * 3 * (5 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 8 * 5**2)
