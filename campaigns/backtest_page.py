"""A page with the curves of a backtest, which needs nothing else: HTML with SVG in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from campaigns.backtest_report import figure
from campaigns.write_file import write_whole

COLOURS = {
    "matloop": "#0b6e4f",
    "random": "#8a8f98",
    "forest": "#c77d0a",
    "evolution": "#7b5ea7",
    "ax": "#2563a8",
    "baybe": "#b3364b",
}
"""Told apart by people who see no red or no green too, by lightness; and each line is named."""

TITLES = {
    "top": "Share of the best designs found",
    "regret": "Simple regret (0: the best is found, 1: the worst design)",
    "best": "Best value so far",
    "hypervolume": "Share of the table's hypervolume found",
}

FIGURES = {
    "top": ("best designs found", True),
    "top_area": ("mean of that curve", True),
    "acceleration": ("acceleration factor", False),
    "enhancement": ("enhancement factor at the end", False),
    "enhancement_peak": ("its peak", False),
    "regret": ("simple regret at the end", True),
    "regret_area": ("mean of that curve", True),
    "hypervolume": ("hypervolume at the end", True),
    "hypervolume_area": ("mean of that curve", True),
}

_WIDTH, _HEIGHT = 640.0, 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 92.0, 10.0, 34.0

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-size:14px;margin:1rem 0}
td,th{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #d8dce1;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
figure{display:inline-block;margin:0 1.5rem 1.5rem 0}figcaption{font-weight:600}svg{max-width:100%}
.scroll{overflow-x:auto}.failed{color:#a3262a}
"""


@dataclass(frozen=True)
class _Frame:
    """From numbers to places."""

    n: int
    low: float
    high: float

    def x(self, i: float) -> float:
        return _LEFT + (i - 1) / max(1, self.n - 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def write_page(path: Path, data: Mapping[str, Any]) -> Path:
    """Write the page of a summary (`backtest_report.summary`)."""
    methods = data["methods"]
    kinds = list(dict.fromkeys(kind for told in methods.values() for kind in told["curves"]))
    n, options = data["table"]["designs"], data["options"]
    charts = "".join(
        f"<figure><figcaption>{escape(TITLES.get(kind, kind))}</figcaption>"
        f"{_chart(kind, methods, n)}</figure>"
        for kind in kinds
    )
    failed = "".join(
        f'<p class="failed">failed: {escape(f["method"])}, seed {f["seed"]}: '
        f"{escape(str(f['error']))}</p>"
        for f in data["failed"]
    )
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Backtest of {escape(data['campaign'])}</title><style>{_STYLE}</style>"
        f"<h1>Backtest of {escape(data['campaign'])}</h1>"
        f"<p>{n} designs, {data['table']['top']} of them the best. {options['budget']} evaluations,"
        f" the first {options['initial']} at random and the same for every method, then batches of"
        f" {options['batch']}. Lines are means over {options['seeds']} seeds, bands and brackets"
        " their 95 % bootstrap intervals.</p>"
        f"{charts}{_table(methods)}{failed}</html>\n"
    )
    return write_whole(path, text)


def _chart(kind: str, methods: Mapping[str, Any], designs: int) -> str:
    curves = {m: told["curves"][kind] for m, told in methods.items()}
    n = max(len(c["mean"]) for c in curves.values())
    known = [v for c in curves.values() for part in c.values() for v in part if v is not None]
    if not known:
        return "<p>nothing feasible was found</p>"
    frame = _Frame(n, 0.0 if kind != "best" else min(known), max(known))
    parts = [_axes(frame)]
    if kind == "top":
        ends = [(1, 1 / designs), (n, n / designs)]
        line = " ".join(f"{frame.x(i):.1f},{frame.y(v):.1f}" for i, v in ends)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="#8a8f98" stroke-dasharray="3 3"/>'
        )
    for method, curve in curves.items():
        parts.append(_band(frame, curve, COLOURS.get(method, "#333")))
    for method, curve in curves.items():
        parts.append(_line(frame, curve["mean"], COLOURS.get(method, "#333")))
    parts += _names(frame, curves)
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" width="{_WIDTH:g}" role="img" '
        f'aria-label="{escape(TITLES.get(kind, kind))}" font-size="12" '
        f'font-family="system-ui,sans-serif">{"".join(parts)}</svg>'
    )


def _axes(frame: _Frame) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#6b7280"/>',
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">'
        "evaluations</text>",
    ]
    for k in range(5):
        value = frame.low + k / 4 * (frame.high - frame.low)
        y = frame.y(value)
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#e5e7eb"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
        i = round(1 + k / 4 * (frame.n - 1))
        parts.append(
            f'<text x="{frame.x(i):.1f}" y="{bottom + 15}" text-anchor="middle">{i}</text>'
        )
    return "".join(parts)


def _points(frame: _Frame, values: Sequence[float | None]) -> list[str]:
    return [
        f"{frame.x(i):.1f},{frame.y(v):.1f}" for i, v in enumerate(values, start=1) if v is not None
    ]


def _band(frame: _Frame, curve: Mapping[str, Sequence[float | None]], colour: str) -> str:
    points = _points(frame, curve["low"]) + _points(frame, curve["high"])[::-1]
    return f'<polygon points="{" ".join(points)}" fill="{colour}" opacity=".13"/>'


def _line(frame: _Frame, values: Sequence[float | None], colour: str) -> str:
    points = " ".join(_points(frame, values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>'


def _names(frame: _Frame, curves: Mapping[str, Any]) -> list[str]:
    """The methods' names at the ends of their lines, moved apart."""
    ends = sorted(
        (frame.y(c["mean"][-1]), name) for name, c in curves.items() if c["mean"][-1] is not None
    )
    parts, above = [], -1e9
    for y, name in ends:
        above = max(y + 4, above + 14)
        parts.append(
            f'<text x="{_WIDTH - _RIGHT + 6}" y="{above:.1f}" '
            f'fill="{COLOURS.get(name, "#333")}">{escape(name)}</text>'
        )
    return parts


def _table(methods: Mapping[str, Any]) -> str:
    if not methods:
        return ""
    wanted = [k for k in FIGURES if k in next(iter(methods.values()))["figures"]]
    metrics = list(dict.fromkeys(m for told in methods.values() for m in told["coverage"]))
    heads = [FIGURES[k][0] for k in wanted] + ["seconds a proposal", "processor seconds"]
    heads += [f"{m} inside its 50 / 80 / 95 % interval" for m in metrics]
    rows = []
    for name, told in methods.items():
        cells = [figure(told["figures"][k], percent=FIGURES[k][1]) for k in wanted]
        cells += [_short(told["seconds"]["wall"]), _short(told["seconds"]["cpu"])]
        for metric in metrics:
            inside = told["coverage"].get(metric, {}).get("inside", {})
            cells.append(" / ".join(f"{100 * s:.0f}" for s in inside.values()))
        rows.append([name, *cells])
    head = "".join(f"<th>{escape(h)}</th>" for h in ["method", *heads])
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
