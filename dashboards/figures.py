"""Charts as inline SVG, small and without a library: axes, marks, lines.

Colours are CSS classes, so that one picture serves a light page, a dark one and paper. A mark that
belongs to a trial carries `data-t`, by which the page's script links it with the table and with
the same trial in other charts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from dashboards.typography import short

WIDTH, HEIGHT = 440.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 14.0, 46.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """From values to pixels.

    Attributes:
        low: Value at the axis' beginning.
        high: Value at its end.
        log: Whether steps are factors.
        names: Of the values 0, 1, 2..., where they stand for words.
        whole: Whether it counts, so that only whole numbers are marked.
    """

    low: float
    high: float
    log: bool = False
    names: tuple[str, ...] = ()
    whole: bool = False

    @classmethod
    def around(cls, values: Iterable[float], *, pad: float = 0.06, log: bool = False) -> Scale:
        """A scale that holds all finite values with some room on both sides."""
        finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
        if not finite:
            return cls(1.0, 10.0, True) if log else cls(0.0, 1.0)
        low, high = min(finite), max(finite)
        if log:
            room = max(math.log(high / low) * pad, 0.05)
            return cls(low * math.exp(-room), high * math.exp(room), True)
        room = (high - low) * pad
        if room <= 1e-12 * max(abs(low), abs(high)):
            room = max(abs(low) * 0.05, 1e-9 if low else 1.0)
        return cls(low - room, high + room)

    @classmethod
    def of_names(cls, names: Sequence[str]) -> Scale:
        """A scale of words, one beside the other."""
        return cls(-0.6, len(names) - 0.4, names=tuple(names))

    def share(self, value: float) -> float:
        """Where a value lies between low (0) and high (1); inside or outside."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """At most so many round values inside, with their labels."""
        if self.names:
            step = math.ceil(len(self.names) / most)
            return [(float(i), n[:14]) for i, n in enumerate(self.names)][::step]
        if self.log and self.high / self.low > 8:
            decades = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            factors = (1, 2, 5) if len(decades) < 3 else (1,)
            values = [f * 10.0**d for d in (decades[0] - 1, *decades) for f in factors]
            return [(v, short(v)) for v in values if self.low <= v <= self.high][: 2 * most]
        raw = (self.high - self.low) / most
        size = 10.0 ** math.floor(math.log10(raw))
        step_size = next(f * size for f in (1, 2, 2.5, 5, 10) if f * size >= raw * 0.999)
        step_size = max(1.0, round(step_size)) if self.whole else step_size
        first = math.ceil(self.low / step_size - 1e-9)
        last = math.floor(self.high / step_size + 1e-9)
        # a sum of steps is not round: 3 * 0.1 is 0.30000000000000004
        return [(i * step_size, short(round(i * step_size, 12))) for i in range(first, last + 1)]


@dataclass(frozen=True)
class Figure:
    """A chart with what stands around it.

    Attributes:
        title: Its heading.
        svg: The picture.
        caption: What to know to read it, one or more sentences.
        kinds: Kinds of trials that it shows, for its legend.
        bar: Ends of a colour scale (low, high) in words, where marks are coloured by a value.
    """

    title: str
    svg: Markup
    caption: str | Markup = ""
    kinds: tuple[str, ...] = ()
    bar: tuple[str, str, str] | None = None


@dataclass
class Plot:
    """A pair of axes on which marks are drawn, in the order of the calls.

    Attributes:
        x: Scale of the horizontal axis.
        y: Scale of the vertical axis.
        x_label: What it shows, with its unit.
        y_label: What it shows, with its unit.
        square: Both axes equally long.
    """

    x: Scale
    y: Scale
    x_label: str
    y_label: str
    square: bool = False
    _parts: list[str] = field(default_factory=list)
    _free: list[str] = field(default_factory=list)
    _taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    @property
    def _box(self) -> tuple[float, float, float, float]:
        """Left, top, width and height of the area of the marks."""
        width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        if self.square:
            height = width = min(width, height + 50.0)
        return _LEFT, _TOP, width, height

    def at(self, x: float, y: float) -> Point:
        """Pixels of a point."""
        left, top, width, height = self._box
        return left + self.x.share(x) * width, top + (1.0 - self.y.share(y)) * height

    def line(self, points: Sequence[Point], css: str) -> None:
        """A line through points."""
        if len(points) > 1:
            self._parts.append(f'<path class="{css}" d="{self._path(points)}"/>')

    def area(self, points: Sequence[Point], css: str) -> None:
        """A filled polygon."""
        self._parts.append(f'<path class="{css}" d="{self._path(points)}Z"/>')

    def steps(self, points: Sequence[Point], css: str) -> None:
        """A line that stays level from each point to the next."""
        corners = list(points[:1])
        for (_, before), (x, y) in itertools.pairwise(points):
            corners += [(x, before), (x, y)]
        self.line(corners, css)

    def across(self, css: str, *, x: float | None = None, y: float | None = None) -> None:
        """A line over the whole width (at y) or height (at x)."""
        if x is not None:
            self.line([(x, self.y.low), (x, self.y.high)], css)
        if y is not None:
            self.line([(self.x.low, y), (self.x.high, y)], css)

    def circle(self, x: float, y: float, radius: float, css: str) -> None:
        """A circle (an ellipse on the page) of a radius in values."""
        (cx, cy), (rx, ry) = self.at(x, y), self.at(x + radius, y + radius)
        shape = f'cx="{cx:.1f}" cy="{cy:.1f}" rx="{abs(rx - cx):.1f}" ry="{abs(cy - ry):.1f}"'
        self._parts.append(f'<ellipse class="{css}" {shape}/>')

    def error(self, x: float, y: float, *, dx: float = 0.0, dy: float = 0.0) -> None:
        """Bars of so much to both sides."""
        for a, b in (((x - dx, y), (x + dx, y)), ((x, y - dy), (x, y + dy))):
            if a != b and all(map(math.isfinite, (*a, *b))):
                self.line([a, b], "err")

    def mark(
        self, x: float, y: float, kind: str, trial: int | None = None, fill: str | None = None
    ) -> None:
        """The mark of a trial: its shape tells its kind, as its colour does."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return
        px, py = self.at(x, y)
        self._taken.append((px - 5, py - 5, px + 5, py + 5))
        tail = f' data-t="{trial}"' if trial is not None else ""
        css = f"m {kind}"
        if fill is not None:
            css, tail = f"{css} filled", f'{tail} style="fill:{fill}"'
        if kind == "front":
            shape = f'<path d="M{px:.1f} {py - 7:.1f}l6.5 7-6.5 7-6.5-7z"'
        elif kind == "failed":
            shape = f'<path d="M{px - 4:.1f} {py - 4:.1f}l8 8m0-8l-8 8"'
        elif kind == "open":
            shape = f'<path d="M{px:.1f} {py - 5:.1f}l5 9h-10z"'
        else:
            shape = f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4"'
        self._free.append(f'{shape} class="{css}"{tail}/>')

    def name(self, x: float, y: float, text: str) -> None:
        """Write a name beside a mark, where there is room; nowhere if there is none.

        Call it after all marks are drawn.
        """
        left, top, width, height = self._box
        px, py = self.at(x, y)
        long = 6.3 * len(text)
        places = [
            (px + 9, py + 4), (px - 9 - long, py + 4), (px - long / 2, py - 11),
            (px - long / 2, py + 19), (px + 7, py - 8), (px - 7 - long, py - 8),
            (px + 7, py + 16), (px - 7 - long, py + 16),
        ]  # fmt: skip
        for tx, ty in places:
            box = (tx, ty - 10, tx + long, ty + 2)
            inside = box[0] > left and box[1] > top
            inside &= box[2] < left + width and box[3] < top + height
            if inside and not any(_overlap(box, other) for other in self._taken):
                self._taken.append(box)
                place = f'x="{tx:.1f}" y="{ty:.1f}"'
                self._free.append(f'<text class="name" {place}>{escape(text)}</text>')
                return

    def note(self, x: float, text: str, anchor: str = "middle", y: float | None = None) -> None:
        """Write a remark at a point, or above the axes."""
        px, py = self.at(x, self.y.high if y is None else y)
        place = f'x="{px:.1f}" y="{py - 4:.1f}" text-anchor="{anchor}"'
        self._free.append(f'<text class="note" {place}>{escape(text)}</text>')

    def render(self, key: str, title: str, description: str) -> Markup:
        """The picture.

        Args:
            key: Unique on the page.
            title: For who does not see it.
            description: What it shows, in a sentence.
        """
        left, top, width, height = self._box
        total = top + height + _BOTTOM
        frame = f'x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}"'
        return Markup(
            f'<svg class="plot" viewBox="0 0 {left + width + _RIGHT:.0f} {total:.0f}" role="img" '
            f'aria-labelledby="{key}-t {key}-d"><title id="{key}-t">{escape(title)}</title>'
            f'<desc id="{key}-d">{escape(description)}</desc>'
            f'<clipPath id="{key}-c"><rect {frame}/></clipPath>'
            f'{self._axes()}<g clip-path="url(#{key}-c)">{"".join(self._parts)}</g>'
            f"{''.join(self._free)}</svg>"
        )

    def _path(self, points: Sequence[Point]) -> str:
        pixels = (self.at(x, y) for x, y in points)
        return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in pixels)

    def _axes(self) -> str:
        left, top, width, height = self._box
        bottom, parts = top + height, []
        for value, text in self.x.ticks():
            x = left + self.x.share(value) * width
            parts.append(f'<path class="grid" d="M{x:.1f} {top:.0f}V{bottom:.0f}"/>')
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom + 15:.0f}" text-anchor="middle">'
                f"{escape(text)}</text>"
            )
        for value, text in self.y.ticks():
            y = top + (1.0 - self.y.share(value)) * height
            parts.append(f'<path class="grid" d="M{left:.0f} {y:.1f}H{left + width:.0f}"/>')
            parts.append(
                f'<text class="tick" x="{left - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">'
                f"{escape(text)}</text>"
            )
        parts.append(
            f'<path class="axis" d="M{left:.0f} {top:.0f}V{bottom:.0f}H{left + width:.0f}"/>'
            f'<text class="label" x="{left + width / 2:.0f}" y="{bottom + 36:.0f}" '
            f'text-anchor="middle">{escape(self.x_label)}</text>'
            f'<text class="label" transform="translate(13 {top + height / 2:.0f})rotate(-90)" '
            f'text-anchor="middle">{escape(self.y_label)}</text>'
        )
        return "".join(parts)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


_VIRIDIS = (
    "440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b",
    "fde725",
)  # fmt: skip


def viridis(share: float) -> str:
    """A colour of the viridis scale (van der Walt and Smith 2015), from 0 to 1."""
    place = min(max(share, 0.0), 1.0) * (len(_VIRIDIS) - 1)
    i = min(int(place), len(_VIRIDIS) - 2)
    a, b = (tuple(bytes.fromhex(c)) for c in _VIRIDIS[i : i + 2])
    return "#" + "".join(
        f"{round(p + (q - p) * (place - i)):02x}" for p, q in zip(a, b, strict=True)
    )


VIRIDIS_CSS = f"linear-gradient(90deg,{','.join('#' + c for c in _VIRIDIS)})"
"""The same as a CSS background."""
