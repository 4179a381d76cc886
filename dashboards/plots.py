"""Figures of a campaign by plotly: for notebooks, and for the pages of a running campaign.

Each takes a campaign, or the service's answer of the same name (`look_tables`), and returns a
`plotly.graph_objects.Figure`. What a mark is says its shape as well as its colour; a page takes the
colour from its own theme, by `meta.colour`. Axes have units, objectives their direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaigns.errors import UsageError
from dashboards import plot_parts as parts
from dashboards.typography import design_name, label, name, percent, product

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from campaigns.campaign import Campaign
    from dashboards.plot_parts import Table


def plot_front(of: Campaign | Table, x: str | None = None, y: str | None = None) -> Figure:
    """Trials against two metrics, with the front.

    Args:
        of: A campaign, or `columns`.
        x: A metric; default: the first objective.
        y: Another; default: the second, or else the first against the order of the trials.

    Raises:
        UsageError: There is no such metric.
    """
    told = parts.table_of(of, "columns")
    goals = [o["metric"] for o in told["objectives"]]
    x = parts.known_metric(told, x or goals[0])
    y = parts.known_metric(told, y or (goals[1] if len(goals) > 1 else goals[0]))
    alone = x == y
    columns, kinds = told["columns"], parts.kinds_of(told)
    xs = parts.trial_numbers(told) if alone else parts.places_of(told, x)
    ys = parts.places_of(told, y)
    figure = parts.new_figure(
        "trial" if alone else parts.axis_title(told, x),
        parts.axis_title(told, y),
        gl=told["n"] > parts.GL,
    )
    if not alone and {x, y} <= set(goals):
        stairs = parts.staircase(told, x, y, [k for k, kind in enumerate(kinds) if kind == "front"])
        if stairs:
            parts.add_trace(
                figure, "lines", *stairs, "the front", "front", line={"dash": "dot", "width": 1.5}
            )
    errors = told["n"] <= parts.BARS
    for kind in parts.ORDER:
        rows = [
            k
            for k, one in enumerate(kinds)
            if one == kind and xs[k] is not None and ys[k] is not None
        ]
        if not rows:
            continue
        more: dict[str, Any] = {}
        if errors and kind not in ("open", "failed"):
            more["error_y"] = parts.error_bars(columns.get(f"sem:{y}"), rows)
            if not alone:
                more["error_x"] = parts.error_bars(columns.get(f"sem:{x}"), rows)
        parts.add_marks(
            figure, told, kind, [xs[k] for k in rows], [ys[k] for k in rows], rows, **more
        )
    for bound in told["constraints"]:
        for axis, metric in (("x", x), ("y", y)):
            if bound["metric"] == metric and not (alone and axis == "x"):
                parts.add_line(figure, axis, bound["bound"])
    return figure


def plot_progress(of: Campaign | Table, metric: str | None = None) -> Figure:
    """Hypervolume, or the best so far of one objective, after each trial that ended.

    Args:
        of: A campaign, or `curve`.
        metric: An objective; default: the hypervolume where there are several.

    Raises:
        UsageError: There is no such objective, or no result yet.
    """
    told = parts.table_of(of, "curve")
    counts = list(range(1, len(told["trials"]) + 1))
    goals = {o["metric"]: o for o in told["objectives"]}
    first = next(iter(goals))
    volume = metric in (None, "hypervolume") and told["several"]
    if volume:
        values = told["hypervolume"] or []
        units = product(o["unit"] for o in goals.values())
        title = f"hypervolume ({units})" if units else "hypervolume"
    else:
        metric = parts.known_metric(told, metric or first)
        values = told["best"].get(metric) or []
        title = f"best {parts.axis_title(told, metric)}"
    if all(v is None for v in values):
        raise UsageError(
            "there is no progress to draw yet",
            where=told["campaign"],
            why="the engine has not worked out the hypervolume of so many objectives"
            if volume and len(goals) > 2 and any(v is not None for v in told["best"][first])
            else "no trial has ended with a result that counts",
        )
    figure = parts.new_figure("trials ended", title)
    band = told.get("random")
    if band and band["of"] == ("hypervolume" if volume else metric):
        at = list(range(1, band["n"] + 1))
        faint = {"width": 0}
        parts.add_trace(figure, "lines", at, band["p10"], "", "out", line=faint, showlegend=False)
        parts.add_trace(
            figure, "lines", at, band["p90"], "random search, 10 to 90 %", "out", line=faint,
            fill="tonexty", fillcolor="rgba(128,134,142,0.22)",
        )  # fmt: skip
        parts.add_trace(figure, "lines", at, band["p50"], "random search, median", "out",
             line={"dash": "dash", "width": 1.2})  # fmt: skip
    texts = [f"after trial {t}" for t in told["trials"]]
    parts.add_trace(
        figure, "lines+markers" if len(values) == 1 else "lines", counts[: len(values)], values,
        "this campaign", "front", line={"shape": "hv", "width": 2.5}, text=texts,
        hovertemplate="%{text}: %{y}<extra></extra>",
    )  # fmt: skip
    if not band:
        figure.update_layout(showlegend=False)
    target = None if volume else goals[metric]["target"]
    if target is not None:
        parts.add_line(figure, "y", target)
    longest = max(len(values), band["n"] if band else 0)
    figure.update_xaxes(range=[0, 1.04 * longest], dtick=1 if longest < 8 else None)
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
    told = parts.table_of(of, "latent")
    rows = columns if columns is not None else parts.table_of(of, "columns")
    if told["reason"]:
        raise UsageError("there is no map", where=told["campaign"], why=told["reason"])
    shares = told["shares"]
    what = "component" if told["projection"] == "latent" else "direction of the parameters"
    figure = parts.new_figure(
        f"first {what} ({percent(shares[0])} of the variance)",
        f"second {what} ({percent(shares[1])})",
        gl=len(told["trials"]) > parts.GL,
    )
    if told["prior"]:
        for share, radius in told["prior"]["radii"].items():
            x, y = told["prior"]["x"], told["prior"]["y"]
            figure.add_shape(
                type="circle", x0=x - radius, x1=x + radius, y0=y - radius, y1=y + radius,
                line={"dash": "dot", "width": 1}, name="soft",
                label={"text": f"{share} % of the prior", "textposition": "top center"},
            )  # fmt: skip
    row_of = {t: k for k, t in enumerate(parts.trial_numbers(rows))}
    at = [row_of[t] for t in told["trials"]]
    kinds = parts.kinds_of(rows)
    colour = colour or told["objectives"][0]["metric"]
    values = None if colour == "kind" else parts.colour_values(rows, colour)
    scale = None
    if values is not None:
        known = [v for k in at if (v := values[k]) is not None]
        scale = (min(known), max(known)) if known else (0.0, 1.0)
    for kind in parts.ORDER:
        shown = [n for n, k in enumerate(at) if kinds[k] == kind]
        if not shown:
            continue
        more: dict[str, Any] = {}
        if values is not None and scale is not None:
            inner = [values[at[n]] for n in shown]
            more = {"values": inner, "scale": scale, "title": parts.colour_title(rows, colour)}
        parts.add_marks(
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
    told = parts.table_of(of, "model")
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
    figure = parts.new_figure(f"{shown}, predicted", f"{shown}, measured")
    ends = [*record["predicted"], *record["result"]]
    low, high = min(ends), max(ends)
    pad = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    line = [low - pad, high + pad]
    parts.add_trace(figure, "lines", line, line, "", "soft", line={"width": 1}, showlegend=False)
    texts = [
        f"{design_name(n)}<br>trial {t}"
        for n, t in zip(record["names"], record["trials"], strict=True)
    ]
    parts.add_trace(
        figure, "markers", record["predicted"], record["result"], "", "ok", text=texts,
        error_x={"array": record["sd"], "thickness": 1, "width": 0},
        error_y={"array": record["sem"], "thickness": 1, "width": 0},
        marker={"size": 8, "line": {"width": 1, "color": "#fff"}},
        customdata=record["trials"], showlegend=False,
        hovertemplate="%{text}<br>predicted %{x}<br>measured %{y}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(constrain="domain")
    figure.update_yaxes(scaleanchor="x", scaleratio=1, constrain="domain")
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
    told = of if isinstance(of, Mapping) else parts.learnt_of(of)
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
    figure = parts.new_figure("share of what is explained", "")
    import plotly.graph_objects as go

    for (one, shares), colour in zip(found.items(), parts.colour_cycle(len(found)), strict=True):
        figure.add_trace(
            go.Bar(
                x=[shares.get(f, 0.0) for f in features], y=[name(f) for f in features],
                name=name(one), orientation="h", marker={"color": parts.COLOURS[colour]},
                meta={"colour": colour}, hovertemplate="%{y}: %{x:.0%}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_layout(barmode="group", showlegend=len(found) > 1)
    return figure
