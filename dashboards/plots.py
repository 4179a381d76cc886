"""Figures of a campaign by plotly: for notebooks, and for the pages of a running campaign.

Each takes a campaign, or the service's answer of the same name (`look_tables`), and returns a
`plotly.graph_objects.Figure`. What a mark is says its shape as well as its colour; a page takes the
colour from its own theme, by `meta.colour`. Axes have units, objectives their direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from campaigns.errors import UsageError, did_you_mean
from dashboards.typography import design_name, label, name, percent, unit

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
_ORDER: Final = ("open", "failed", "part", "out", "ok", "front")
_GL: Final = 1000
_BARS: Final = 200


def plot_front(of: Campaign | Table, x: str | None = None, y: str | None = None) -> Figure:
    """Trials against two metrics, with the front.

    Args:
        of: A campaign, or `columns`.
        x: A metric; default: the first objective.
        y: Another; default: the second, or else the first against the order of the trials.

    Raises:
        UsageError: There is no such metric.
    """
    told = _told(of, "columns")
    goals = [o["metric"] for o in told["objectives"]]
    x = _metric(told, x or goals[0])
    y = _metric(told, y or (goals[1] if len(goals) > 1 else goals[0]))
    alone = x == y
    columns, kinds = told["columns"], _kinds(told)
    xs = _trials(told) if alone else _places(told, x)
    ys = _places(told, y)
    figure = _figure("trial" if alone else _axis(told, x), _axis(told, y), gl=told["n"] > _GL)
    if not alone and {x, y} <= set(goals):
        stairs = _stairs(told, x, y, [k for k, kind in enumerate(kinds) if kind == "front"])
        if stairs:
            _add(figure, "lines", *stairs, "the front", "front", line={"dash": "dot", "width": 1.5})
    errors = told["n"] <= _BARS
    for kind in _ORDER:
        rows = [
            k
            for k, one in enumerate(kinds)
            if one == kind and xs[k] is not None and ys[k] is not None
        ]
        if not rows:
            continue
        more: dict[str, Any] = {}
        if errors and kind not in ("open", "failed"):
            more["error_y"] = _error(columns.get(f"sem:{y}"), rows)
            if not alone:
                more["error_x"] = _error(columns.get(f"sem:{x}"), rows)
        _marks(figure, told, kind, [xs[k] for k in rows], [ys[k] for k in rows], rows, **more)
    for bound in told["constraints"]:
        for axis, metric in (("x", x), ("y", y)):
            if bound["metric"] == metric and not (alone and axis == "x"):
                _line(figure, axis, bound["bound"])
    return figure


def plot_progress(of: Campaign | Table, metric: str | None = None) -> Figure:
    """Hypervolume, or the best so far of one objective, after each trial that ended.

    Args:
        of: A campaign, or `curve`.
        metric: An objective; default: the hypervolume where there are several.

    Raises:
        UsageError: There is no such objective.
    """
    told = _told(of, "curve")
    counts = list(range(1, len(told["trials"]) + 1))
    goals = {o["metric"]: o for o in told["objectives"]}
    volume = metric in (None, "hypervolume") and told["several"]
    if volume:
        values = told["hypervolume"] or []
        units = "·".join(unit(o["unit"]) for o in goals.values() if unit(o["unit"]))
        title = f"hypervolume ({units})" if units else "hypervolume"
    else:
        metric = _metric(told, metric or next(iter(goals)))
        values = told["best"].get(metric) or []
        title = f"best {_axis(told, metric)}"
    figure = _figure("trials ended", title)
    band = told.get("random")
    if band and band["of"] == ("hypervolume" if volume else metric):
        at = list(range(1, band["n"] + 1))
        faint = {"width": 0}
        _add(figure, "lines", at, band["p10"], "", "out", line=faint, showlegend=False)
        _add(
            figure, "lines", at, band["p90"], "random search, 10 to 90 %", "out", line=faint,
            fill="tonexty", fillcolor="rgba(128,134,142,0.22)",
        )  # fmt: skip
        _add(figure, "lines", at, band["p50"], "random search, median", "out",
             line={"dash": "dash", "width": 1.2})  # fmt: skip
    texts = [f"after trial {t}" for t in told["trials"]]
    _add(
        figure, "lines", counts[: len(values)], values, "this campaign", "front",
        line={"shape": "hv", "width": 2.5}, text=texts,
        hovertemplate="%{text}: %{y}<extra></extra>",
    )  # fmt: skip
    if not band:
        figure.update_layout(showlegend=False)
    figure.update_xaxes(rangemode="tozero")
    return figure


def plot_map(
    of: Campaign | Table, columns: Table | None = None, colour: str | None = None
) -> Figure:
    """Trials in the latent space, along the two directions that spread them most.

    Args:
        of: A campaign, or `latent`.
        columns: What is known of the trials, where `of` is `latent`.
        colour: A metric, `predicted:METRIC`, `sd:METRIC`, `acquisition`, `round` or `kind`;
            default: the first objective.

    Raises:
        UsageError: There is no such map, or nothing to colour it by.
    """
    told = _told(of, "latent")
    rows = columns if columns is not None else _told(of, "columns")
    if told["reason"]:
        raise UsageError("there is no map", where=told["campaign"], why=told["reason"])
    shares = told["shares"]
    what = "component" if told["projection"] == "latent" else "direction of the parameters"
    figure = _figure(
        f"first {what} ({percent(shares[0])} of the variance)",
        f"second {what} ({percent(shares[1])})",
        gl=len(told["trials"]) > _GL,
    )
    if told["prior"]:
        for share, radius in told["prior"]["radii"].items():
            x, y = told["prior"]["x"], told["prior"]["y"]
            figure.add_shape(
                type="circle", x0=x - radius, x1=x + radius, y0=y - radius, y1=y + radius,
                line={"dash": "dot", "width": 1}, name="soft",
                label={"text": f"{share} % of the prior", "textposition": "top center"},
            )  # fmt: skip
    row_of = {t: k for k, t in enumerate(_trials(rows))}
    at = [row_of[t] for t in told["trials"]]
    kinds = _kinds(rows)
    colour = colour or told["objectives"][0]["metric"]
    values = None if colour == "kind" else _coloured(rows, colour)
    scale = None
    if values is not None:
        known = [v for k in at if (v := values[k]) is not None]
        scale = (min(known), max(known)) if known else (0.0, 1.0)
    for kind in _ORDER:
        shown = [n for n, k in enumerate(at) if kinds[k] == kind]
        if not shown:
            continue
        more: dict[str, Any] = {}
        if values is not None and scale is not None:
            inner = [values[at[n]] for n in shown]
            more = {"values": inner, "scale": scale, "title": _colour_title(rows, colour)}
        _marks(
            figure, rows, kind, [told["x"][n] for n in shown], [told["y"][n] for n in shown],
            [at[n] for n in shown], **more,
        )  # fmt: skip
    figure.update_yaxes(scaleanchor="x", scaleratio=1)
    return figure


def plot_parity(of: Campaign | Table, metric: str | None = None) -> Figure:
    """What was predicted before each result against the result, with one standard deviation.

    Args:
        of: A campaign, or `model`.
        metric: Which; default: the first that has both.

    Raises:
        UsageError: No prediction of it was answered yet.
    """
    told = _told(of, "model")
    records = {r["metric"]: r for r in told["records"]}
    wanted = metric or next(iter(records), None)
    if wanted not in records:
        raise UsageError(
            "there is nothing to compare",
            where=str(wanted or told["campaign"]),
            why="no trial has both a prediction and a result",
        )
    record = records[wanted]
    shown = label(record["metric"], record["unit"])
    figure = _figure(f"{shown}, predicted", f"{shown}, measured")
    ends = [*record["predicted"], *record["result"]]
    low, high = min(ends), max(ends)
    pad = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    line = [low - pad, high + pad]
    _add(figure, "lines", line, line, "", "soft", line={"width": 1}, showlegend=False)
    texts = [
        f"{design_name(n)}<br>trial {t}"
        for n, t in zip(record["names"], record["trials"], strict=True)
    ]
    _add(
        figure, "markers", record["predicted"], record["result"], "", "ok", text=texts,
        error_x={"array": record["sd"], "thickness": 1, "width": 0},
        error_y={"array": record["sem"], "thickness": 1, "width": 0},
        marker={"size": 8, "line": {"width": 1, "color": "#fff"}},
        customdata=record["trials"], showlegend=False,
        hovertemplate="%{text}<br>predicted %{x}<br>measured %{y}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(scaleanchor="x", scaleratio=1)
    return figure


def plot_importances(of: Campaign | Table, metric: str | None = None, most: int = 12) -> Figure:
    """What each metric depends on, as shares.

    Args:
        of: A campaign (it is fitted), or `model`.
        metric: Which; default: all.
        most: Features to show at most.

    Raises:
        UsageError: There is no importance yet.
    """
    told = of if isinstance(of, Mapping) else _learnt(of)
    found = {
        m: i["shares"]
        for m, i in told["importances"].items()
        if i.get("shares") and metric in (None, m)
    }
    if not found:
        raise UsageError(
            "nothing is known of importances yet",
            where=metric,
            why=next(iter(told.get("notes", ())), "the model predicts no better than the mean"),
        )
    largest: dict[str, float] = {}
    for shares in found.values():
        for feature, share in shares.items():
            largest[feature] = max(share, largest.get(feature, 0.0))
    features = sorted(largest, key=largest.__getitem__)[-most:]
    figure = _figure("share of what is explained", "")
    import plotly.graph_objects as go

    for (one, shares), colour in zip(found.items(), _cycle(len(found)), strict=True):
        figure.add_trace(
            go.Bar(
                x=[shares.get(f, 0.0) for f in features], y=[name(f) for f in features],
                name=name(one), orientation="h", marker={"color": COLOURS[colour]},
                meta={"colour": colour}, hovertemplate="%{y}: %{x:.0%}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_layout(barmode="group", showlegend=len(found) > 1)
    return figure


def _told(of: Campaign | Table, what: str) -> Table:
    """The table of that name, of a campaign or as it is given."""
    if isinstance(of, Mapping):
        return of
    from campaigns.facts import read_facts
    from campaigns.service import look_tables
    from campaigns.service.looks import Look

    table: Table = getattr(look_tables, what)(Look(0, read_facts(of), {}))
    return table


def _learnt(of: Campaign) -> Table:
    from campaigns.explaining import learnt

    return learnt(of)


def _metric(told: Table, metric: str) -> str:
    known = [m["name"] for m in told["metrics"]]
    if metric not in known:
        raise UsageError(f"there is no metric {metric!r}", hint=did_you_mean(metric, known))
    return metric


def _trials(told: Table) -> list[int]:
    return list(told["columns"].get("trial") or range(told["n"]))


def _kinds(told: Table) -> list[str]:
    return [told["codes"]["kind"][code] for code in told["columns"]["kind"]]


def _places(told: Table, metric: str) -> list[float | None]:
    """Where a trial stands: as measured, or as predicted where nothing was measured."""
    nothing = [None] * told["n"]
    measured = told["columns"].get(f"mean:{metric}") or nothing
    predicted = told["columns"].get(f"predicted:{metric}") or nothing
    return [
        p if kind in ("open", "failed") else m
        for m, p, kind in zip(measured, predicted, _kinds(told), strict=True)
    ]


def _axis(told: Table, metric: str) -> str:
    """A metric with its unit, and an arrow for its direction."""
    of = {m["name"]: m["unit"] for m in told["metrics"]}[metric]
    goal = next((o for o in told["objectives"] if o["metric"] == metric), None)
    arrow = {"maximize": " ↑", "minimize": " ↓"}.get(goal["goal"], " →|") if goal else ""
    return label(metric, of) + arrow


def _stairs(
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


def _coloured(told: Table, colour: str) -> list[float | None]:
    nothing = [None] * told["n"]
    known = [m["name"] for m in told["metrics"]]
    if colour in known:
        return list(told["columns"].get(f"mean:{colour}") or nothing)
    of, _, metric = colour.partition(":")
    if colour in ("acquisition", "round") or (of in ("predicted", "sd") and metric in known):
        return list(told["columns"].get(colour) or nothing)
    raise UsageError(f"nothing is called {colour!r}", hint=did_you_mean(colour, known))


def _colour_title(told: Table, colour: str) -> str:
    of, _, metric = colour.partition(":")
    if metric:
        words = {"predicted": "predicted", "sd": "uncertainty of"}[of]
        return f"{words} {_axis(told, metric).rstrip(' ↑↓→|')}"
    return _axis(told, colour) if colour in {m["name"] for m in told["metrics"]} else colour


def _figure(x: str, y: str, gl: bool = False) -> Figure:
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


def _add(
    figure: Figure, mode: str, x: Sequence[Any], y: Sequence[Any], shown: str, colour: str,
    **more: Any,
) -> None:  # fmt: skip
    import plotly.graph_objects as go

    # All of one pair of axes in one way: what WebGL draws is always above what SVG draws.
    kind = go.Scattergl if figure.layout.meta["gl"] else go.Scatter
    for part in ("line", "marker"):
        if part in more and "color" not in more[part]:
            more[part] = {**more[part], "color": COLOURS.get(colour, "#57606a")}
    figure.add_trace(kind(mode=mode, x=x, y=y, name=shown, meta={"colour": colour}, **more))


def _marks(
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
    trials = _trials(told)
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
    _add(figure, "markers", x, y, told["kinds"][kind], kind, marker=marker, **more)
    figure.data[-1].meta = {"colour": kind, "hollow": hollow, "kind": kind}


def _error(values: Sequence[Any] | None, rows: Sequence[int]) -> dict[str, Any]:
    found = [values[k] or 0.0 for k in rows] if values else []
    return {"array": found, "thickness": 1, "width": 0, "visible": any(found)}


def _line(figure: Figure, axis: str, at: float) -> None:
    draw = figure.add_vline if axis == "x" else figure.add_hline
    draw(at, line={"dash": "dash", "width": 1.2, "color": "#57606a"}, name="soft")


def _cycle(count: int) -> list[str]:
    order = ("ok", "front", "open", "failed", "out")
    return [order[k % len(order)] for k in range(count)]
