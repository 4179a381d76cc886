"""Ax's figures, made to fit a page: its own colours, no legend of trials, and no WebGL.

Parallel coordinates are drawn as lines: plotly.js draws its own with shaders that it compiles from
text, which a page that forbids evaluating text does not allow.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

_TRIAL = re.compile(r"^Trial \d+$")
_INNER = {"display_parameter_name": ""}


def fitted(blob: str) -> dict[str, Any]:
    """A card's figure as ``data`` and ``layout``.

    Args:
        blob: The figure as plotly writes it.
    """
    figure = json.loads(blob, parse_constant=lambda _: None)
    data, layout = figure["data"], dict(figure.get("layout", {}))
    for unwanted in ("template", "title", "width", "height"):
        layout.pop(unwanted, None)
    if len(data) == 1 and data[0].get("type") == "parcoords":
        return parallel(data[0])
    if "legend" in layout:  # above, where no axis title can be
        layout["legend"] = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    for trace in data:
        if trace.get("marker", {}).get("color") == "black":
            trace["meta"] = {"colour": "ink"}  # black on white, white on black
        if _TRIAL.match(trace.get("name") or ""):
            trace["showlegend"] = False
    for axis in ("xaxis", "yaxis"):
        title = layout.get(axis, {}).get("title", {})
        if isinstance(title, dict) and title.get("text") in _INNER:
            title["text"] = _INNER[title["text"]]
    return {"data": data, "layout": layout}


def parallel(trace: dict[str, Any]) -> dict[str, Any]:
    """Parallel coordinates as one line for each arm, coloured by the last column.

    Args:
        trace: Of plotly's type `parcoords`.
    """
    from plotly.colors import sample_colorscale

    columns = [_column(d) for d in trace["dimensions"] if d.get("visible", True)]
    shares, labels, ends, texts = zip(*columns, strict=True) if columns else ((), (), (), ())
    places = list(range(len(labels)))
    data: list[dict[str, Any]] = []
    for arm in range(len(shares[0]) if shares else 0):
        at = [column[arm] for column in shares]
        # neither the darkest nor the lightest, which are lost on a dark page or on a light one
        share = 0.12 + 0.78 * (at[-1] if at[-1] is not None else 0.0)
        colour = sample_colorscale("Viridis", [share])[0]
        lines = [f"{n}: {column[arm]}" for n, column in zip(labels, texts, strict=True)]
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": places, "y": at,
                "line": {"color": colour, "width": 1.5}, "marker": {"size": 4, "color": colour},
                "text": ["<br>".join(lines)] * len(places), "showlegend": False,
                "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
    notes = [
        {
            "x": place,
            "y": y,
            "text": text,
            "showarrow": False,
            "yshift": shift,
            "font": {"size": 11},
        }
        for place, (low, high) in zip(places, ends, strict=True)
        for y, text, shift in ((0.0, low, -12), (1.0, high, 12))
    ]
    layout = {
        "xaxis": {"tickvals": places, "ticktext": list(labels), "zeroline": False,
                  "range": [-0.3, len(places) - 0.7], "side": "bottom"},
        "yaxis": {"visible": False, "range": [-0.12, 1.12], "zeroline": False},
        "annotations": notes,
        "margin": {"l": 20, "r": 20},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _column(
    dimension: dict[str, Any],
) -> tuple[list[float | None], str, tuple[str, str], list[str]]:
    """Shares of the axis, its label, what stands at its ends, and each value in words."""
    values = decoded(dimension.get("values", []))
    words = dict(
        zip(dimension.get("tickvals") or [], dimension.get("ticktext") or [], strict=False)
    )
    known = [v for v in values if v is not None and math.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    shares = [
        None
        if v is None or not math.isfinite(v)
        else (v - low) / (high - low)
        if high > low
        else 0.5
        for v in values
    ]

    def told(value: float | None) -> str:
        return "" if value is None else str(words.get(value, f"{value:.4g}"))

    label = str(dimension.get("label", "")).replace("_", " ")
    return shares, label, (told(low), told(high)), [told(v) for v in values]


def decoded(values: Any) -> Sequence[Any]:
    """Plotly's array, which it may write as bytes."""
    if isinstance(values, dict):
        import base64

        import numpy as np

        found: list[Any] = np.frombuffer(
            base64.b64decode(values["bdata"]), values["dtype"]
        ).tolist()
        return found
    return list(values)
