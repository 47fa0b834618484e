"""Line pictures as geometry: the template turns it into SVG, the style sheet gives it its colours.

Drawn here rather than by a plotting library so that text stays text, colours follow the reader's light or dark
theme, every picture comes in a wide and a narrow cut, and the same numbers always give the same bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from palate.report.scales import Scale, linear_ticks, log_ticks, thinned

LINE_HEIGHT = 15.0
CHARACTER_WIDTH = 6.6  # a generous mean for 13 px sans-serif
LABEL_GAP = 9.0


@dataclass(frozen=True)
class Series:
    """One line to draw. ``tone`` is its style in style.css; low and high, if given, make a band."""

    name: str
    tone: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dots: bool = True


@dataclass(frozen=True)
class Chart:
    """What to draw: series over common axes."""

    title: str
    x_name: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    x_ticks: Sequence[float] = ()
    """Where to label x; round numbers when not given."""


@dataclass(frozen=True)
class Cut:
    """A size to draw in, and the most characters in a line of a label."""

    name: str
    width: float
    height: float
    label_width: int


WIDE = Cut("wide", 900, 380, 26)
HALF = Cut("wide", 440, 300, 15)
NARROW = Cut("narrow", 360, 300, 13)


@dataclass(frozen=True)
class Mark:
    """A tick or a dot: a place and its text."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Label:
    """A line's name beside its end: the baseline of the first of its lines, and the end that it belongs to."""

    x: float
    y: float
    lines: Sequence[str]
    end: Mark


@dataclass(frozen=True)
class Curve:
    """One drawn line: SVG path data and marks."""

    tone: str
    path: str
    band: str
    dots: Sequence[Mark]
    label: Label


@dataclass(frozen=True)
class Picture:
    """A chart drawn in one cut, all in pixels of its view box."""

    cut: Cut
    chart: Chart
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: Sequence[Mark]
    y_ticks: Sequence[Mark]
    curves: Sequence[Curve]


def number(value: float) -> str:
    """A tick's text: 0.25, 50, 10,000."""
    return f"{value:,.10g}"


def draw(chart: Chart, cut: Cut) -> Picture:
    """Lay a chart out in a cut; lines that end at the right edge are named in the margin beside it."""
    names = [textwrap.wrap(series.name, cut.label_width) or [""] for series in chart.series]
    margin = max(len(line) for lines in names for line in lines) * CHARACTER_WIDTH + LABEL_GAP
    every_y = [value for series in chart.series for value in (*series.y, *series.low, *series.high)]
    y_values = log_ticks(min(every_y), max(every_y)) if chart.log_y else linear_ticks(min(every_y), max(every_y))
    left = max(len(number(value)) for value in y_values) * CHARACTER_WIDTH + 12
    right, top, bottom = cut.width - margin, 34.0, cut.height - 46
    y_scale = Scale(y_values[0], y_values[-1], bottom, top, chart.log_y)
    every_x = [value for series in chart.series for value in series.x]
    x_scale = Scale(min(every_x), max(every_x), left + 8, right - 4, chart.log_x)
    x_values = chart.x_ticks or [v for v in linear_ticks(min(every_x), max(every_x)) if v <= max(every_x)]
    x_gap = max(len(number(value)) for value in x_values) * CHARACTER_WIDTH + 8
    curves = [_curve(series, lines, x_scale, y_scale) for series, lines in zip(chart.series, names, strict=True)]
    return Picture(
        cut=cut,
        chart=chart,
        left=round(left, 1),
        right=round(right, 1),
        top=top,
        bottom=bottom,
        x_ticks=[Mark(x_scale(value), bottom, number(value)) for value in thinned(x_values, x_scale, x_gap)],
        y_ticks=[Mark(left, y_scale(value), number(value)) for value in thinned(y_values, y_scale, 22)],
        curves=_labels_apart(curves, right, cut.height - 30),
    )


def _curve(series: Series, lines: Sequence[str], x_scale: Scale, y_scale: Scale) -> Curve:
    dots = [
        Mark(x_scale(x), y_scale(y), f"{series.name}: {y:.3f} at {number(x)}")
        for x, y in zip(series.x, series.y, strict=True)
    ]
    xs = [dot.x for dot in dots]
    band = ""
    if series.low and len(xs) > 1:
        there = zip(xs, map(y_scale, series.high), strict=True)
        back = zip(reversed(xs), map(y_scale, reversed(series.low)), strict=True)
        band = _path([*there, *back]) + "Z"
    label = Label(dots[-1].x + LABEL_GAP, dots[-1].y, lines, end=dots[-1])
    path = _path([(dot.x, dot.y) for dot in dots])
    return Curve(series.tone, path, band, dots if series.dots else (), label)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _labels_apart(curves: Sequence[Curve], right: float, floor: float) -> list[Curve]:
    """Push labels in the margin apart, and set those of lines that end early above their end."""
    at_edge = sorted(
        (curve for curve in curves if curve.label.end.x > right - 40), key=lambda curve: curve.label.end.y
    )
    tops: list[float] = []
    below = 0.0
    for curve in at_edge:
        height = len(curve.label.lines) * LINE_HEIGHT
        tops.append(max(below, curve.label.end.y - height / 2))
        below = tops[-1] + height + 3
    above = floor
    for index in reversed(range(len(at_edge))):
        tops[index] = min(tops[index], above - len(at_edge[index].label.lines) * LINE_HEIGHT)
        above = tops[index] - 3
    baselines = {id(curve): top + LINE_HEIGHT - 4 for curve, top in zip(at_edge, tops, strict=True)}
    return [_with_label(curve, baselines.get(id(curve)), right) for curve in curves]


def _with_label(curve: Curve, baseline: float | None, right: float) -> Curve:
    label = curve.label
    if baseline is None:
        y = label.end.y - 10 - (len(label.lines) - 1) * LINE_HEIGHT
        placed = Label(label.end.x, round(y, 1), label.lines, label.end)
    else:
        placed = Label(round(right + LABEL_GAP, 1), round(baseline, 1), label.lines, label.end)
    return Curve(curve.tone, curve.path, curve.band, curve.dots, placed)
