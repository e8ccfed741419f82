"""Bars as SVG: text that stays text, a few kilobytes, and colours for light pages and dark ones."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# The picture brings its own ground, so that it can be read whatever page it lies on.
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #24292f }
.ground { fill: #ffffff; stroke: #d0d7de }
.title { font-weight: 600; font-size: 15px }
.quiet { fill: #59636e }
.ours { fill: #1f8a5f }
.theirs { fill: #9aa7b4 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9ee }
  .ground { fill: #1d2129; stroke: #3a414d }
  .quiet { fill: #a3adba }
  .ours { fill: #3fc28c }
  .theirs { fill: #66727f }
}
"""
_WIDTH, _MARGIN, _LABELS, _VALUES = 760, 18, 232, 76
_HEAD, _LINE, _BAR, _GAP = 34, 24, 16, 20


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: Whose it is.
        value: How long it is.
        text: What is written behind it.
        ours: Whether it is this package's.
    """

    label: str
    value: float
    text: str
    ours: bool


@dataclass(frozen=True)
class Panel:
    """Bars of one measure, from zero on.

    Attributes:
        title: What is measured.
        note: How to read it.
        bars: From above to below.
    """

    title: str
    note: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        """How high it is."""
        return _HEAD + _LINE * len(self.bars)


def bars(*panels: Panel) -> str:
    """Panels under each other, as an SVG file."""
    top, parts = _MARGIN, []
    for panel in panels:
        parts += _drawn(panel, top)
        top += panel.height + _GAP
    height = top - _GAP + _MARGIN
    title = "; ".join(f"{panel.title}, {panel.note}" for panel in panels)
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        *parts,
        "</svg>\n",
    ]
    return "\n".join(lines)


def _drawn(panel: Panel, top: int) -> list[str]:
    space = _WIDTH - 2 * _MARGIN - _LABELS - _VALUES
    longest = max(bar.value for bar in panel.bars)
    start = _MARGIN + _LABELS
    title = f'<tspan class="title">{escape(panel.title)}</tspan>'
    note = f'<tspan class="quiet" dx="10">{escape(panel.note)}</tspan>'
    parts = [f'<text x="{_MARGIN}" y="{top + 14}">{title}{note}</text>']
    for number, bar in enumerate(panel.bars):
        middle = top + _HEAD + _LINE * number + _LINE // 2 - 4
        width = max(1.0, space * bar.value / longest)
        kind = "ours" if bar.ours else "theirs"
        parts += [
            f'<text x="{start - 10}" y="{middle + 4}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect class="{kind}" x="{start}" y="{middle - _BAR // 2}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
            f'<text x="{start + width + 8:.1f}" y="{middle + 4}">{escape(bar.text)}</text>',
        ]
    return parts
