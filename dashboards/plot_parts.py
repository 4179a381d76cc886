"""What the figures of `plots` are put together from: tables, axes, marks, lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from campaigns.errors import UsageError, did_you_mean
from dashboards.typography import design_name, label, short

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from campaigns.campaign import Campaign

Table: TypeAlias = Mapping[str, Any]

COLOURS: Final = {
    "front": "#c2410c", "ok": "#0072b2", "out": "#7b838c", "part": "#7b838c",
    "failed": "#a1206b", "open": "#4d7c0f",
}  # fmt: skip
_SYMBOLS: Final = {
    "front": "diamond", "ok": "circle", "out": "circle-open", "part": "circle-open-dot",
    "failed": "x-thin", "open": "triangle-up-open",
}  # fmt: skip
_SIZES: Final = {"front": 11, "ok": 8, "out": 8, "part": 8, "failed": 8, "open": 9}
ORDER: Final = ("open", "failed", "part", "out", "ok", "front")
GL: Final = 1000
BARS: Final = 200


def table_of(of: Campaign | Table, what: str) -> Table:
    """The table of that name, of a campaign or as it is given."""
    if isinstance(of, Mapping):
        return of
    from campaigns.facts import read_facts
    from campaigns.service import look_tables
    from campaigns.service.looks import Look

    table: Table = getattr(look_tables, what)(Look(0, read_facts(of), {}))
    return table


def learnt_of(of: Campaign) -> Table:
    """What the results teach, fitted now."""
    from campaigns.explaining import learnt

    return learnt(of)


def known_metric(told: Table, metric: str) -> str:
    """A metric's name. Raises `UsageError` where there is none such."""
    known = [m["name"] for m in told["metrics"]]
    if metric not in known:
        raise UsageError(f"there is no metric {metric!r}", hint=did_you_mean(metric, known))
    return metric


def trial_numbers(told: Table) -> list[int]:
    """Of each row, the trial's number."""
    return list(told["columns"].get("trial") or range(told["n"]))


def kinds_of(told: Table) -> list[str]:
    """Of each row, what became of the trial."""
    return [told["codes"]["kind"][code] for code in told["columns"]["kind"]]


def places_of(told: Table, metric: str) -> list[float | None]:
    """Where a trial stands: as measured, or as predicted where nothing was measured."""
    nothing = [None] * told["n"]
    measured = told["columns"].get(f"mean:{metric}") or nothing
    predicted = told["columns"].get(f"predicted:{metric}") or nothing
    return [
        p if kind in ("open", "failed") else m
        for m, p, kind in zip(measured, predicted, kinds_of(told), strict=True)
    ]


def axis_title(told: Table, metric: str) -> str:
    """A metric with its unit, and an arrow for its direction."""
    of = {m["name"]: m["unit"] for m in told["metrics"]}[metric]
    goal = next((o for o in told["objectives"] if o["metric"] == metric), None)
    if goal is None:
        return label(metric, of)
    arrow = {"maximize": "↑", "minimize": "↓"}.get(goal["goal"])
    return f"{label(metric, of)} {arrow or '→ ' + short(goal['target'])}"


def staircase(
    told: Table, x: str, y: str, rows: Sequence[int]
) -> tuple[list[float], list[float]] | None:
    """The line that the front draws, where both objectives have a direction."""
    goals = {o["metric"]: o["goal"] for o in told["objectives"]}
    signs = {"maximize": 1.0, "minimize": -1.0}
    if not rows or len(goals) != 2 or not {goals[x], goals[y]} <= set(signs):
        return None
    up, of = signs[goals[x]], told["columns"]
    points = sorted((up * of[f"mean:{x}"][k], of[f"mean:{y}"][k]) for k in rows)
    xs: list[float] = []
    ys: list[float] = []
    for (here, level), after in zip(points, [*points[1:], None], strict=True):
        xs.append(up * here)
        ys.append(level)
        if after is not None:
            xs.append(up * here)
            ys.append(after[1])
    return xs, ys


def colour_values(told: Table, colour: str) -> list[float | None]:
    """The column to colour trials by. Raises `UsageError` where there is none such."""
    nothing = [None] * told["n"]
    known = [m["name"] for m in told["metrics"]]
    if colour in known:
        return list(told["columns"].get(f"mean:{colour}") or nothing)
    of, _, metric = colour.partition(":")
    if colour in ("acquisition", "round") or (of in ("predicted", "sd") and metric in known):
        return list(told["columns"].get(colour) or nothing)
    raise UsageError(f"nothing is called {colour!r}", hint=did_you_mean(colour, known))


def colour_title(told: Table, colour: str) -> str:
    """What that column is, for the colour bar."""
    of, _, metric = colour.partition(":")
    if metric:
        words = {"predicted": "predicted", "sd": "uncertainty of"}[of]
        return f"{words} {label(metric, {m['name']: m['unit'] for m in told['metrics']}[metric])}"
    return axis_title(told, colour) if colour in {m["name"] for m in told["metrics"]} else colour


def new_figure(x: str, y: str, gl: bool = False) -> Figure:
    """An empty figure with titles of its axes."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template="none", meta={"gl": gl}, xaxis={"title": {"text": x}, "automargin": True},
        yaxis={"title": {"text": y}, "automargin": True},
        margin={"l": 60, "r": 20, "t": 36, "b": 50},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}, uirevision="keep",
        hovermode="closest",
    )  # fmt: skip
    return figure


def add_trace(
    figure: Figure, mode: str, x: Sequence[Any], y: Sequence[Any], shown: str, colour: str,
    **more: Any,
) -> None:  # fmt: skip
    """One trace, whose colour a page may change."""
    import plotly.graph_objects as go

    # All of one pair of axes in one way: what WebGL draws is always above what SVG draws.
    kind = go.Scattergl if figure.layout.meta["gl"] else go.Scatter
    for part in ("line", "marker"):
        if part in more and "color" not in more[part]:
            more[part] = {**more[part], "color": COLOURS.get(colour, "#57606a")}
    figure.add_trace(kind(mode=mode, x=x, y=y, name=shown, meta={"colour": colour}, **more))


def add_marks(
    figure: Figure, told: Table, kind: str, x: Sequence[Any], y: Sequence[Any],
    rows: Sequence[int], values: Sequence[Any] | None = None,
    scale: tuple[float, float] | None = None, title: str = "", **more: Any,
) -> None:  # fmt: skip
    """The trials of one kind; with `values`, coloured by those, and grey where none is known."""
    marker: dict[str, Any] = {
        "symbol": _SYMBOLS[kind],
        "size": _SIZES[kind],
        "line": {"width": 1.5},
    }
    hollow = "open" in _SYMBOLS[kind] or kind == "failed"
    if not hollow:
        marker["line"] = {"width": 1, "color": "#fff"}
    trials = trial_numbers(told)
    names = told["columns"].get("name")
    texts = [
        f"{design_name(names[k]) + '<br>' if names else ''}trial {trials[k]}: {told['kinds'][kind]}"
        for k in rows
    ]
    more |= {
        "text": texts, "customdata": [trials[k] for k in rows],
        "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>",
    }  # fmt: skip
    if values is not None and any(v is not None for v in values) and scale is not None:
        marker |= {
            "color": [float("nan") if v is None else v for v in values], "colorscale": "Viridis",
            "cmin": scale[0], "cmax": scale[1], "showscale": True,
            "colorbar": {"title": {"text": title, "side": "right"}, "thickness": 12, "len": 0.9},
        }  # fmt: skip
    add_trace(figure, "markers", x, y, told["kinds"][kind], kind, marker=marker, **more)
    figure.data[-1].meta = {"colour": kind, "hollow": hollow, "kind": kind}


def error_bars(values: Sequence[Any] | None, rows: Sequence[int]) -> dict[str, Any]:
    """Standard errors as plotly has them; none where none is known."""
    found = [values[k] or 0.0 for k in rows] if values else []
    return {"array": found, "thickness": 1, "width": 0, "visible": any(found)}


def add_line(figure: Figure, axis: str, at: float) -> None:
    """A bound, across the figure."""
    draw = figure.add_vline if axis == "x" else figure.add_hline
    draw(at, line={"dash": "dash", "width": 1.2, "color": "#57606a"}, name="soft")


def colour_cycle(count: int) -> list[str]:
    """So many colours by their roles."""
    order = ("ok", "front", "open", "failed", "out")
    return [order[k % len(order)] for k in range(count)]
