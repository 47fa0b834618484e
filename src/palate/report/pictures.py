"""Layout of line charts: computes the geometry that the template renders as SVG and the style sheet colours.

A plotting library is not used, so that text remains selectable, colours follow the browser's light or dark theme, each
chart has a wide and a narrow layout, and equal data gives equal bytes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from palate.report.scales import AxisScale, linear_ticks, log_ticks, thinned

LINE_HEIGHT = 15.0
CHARACTER_WIDTH = 7.5  # upper estimate of the mean width, for 13 px sans-serif
LABEL_GAP = 9.0
EDGE = 40.0  # a line that ends this near the right edge is named in the margin


@dataclass(frozen=True)
class Series:
    """One line of a chart. ``tone`` is its class in style.css; ``low`` and ``high``, if given, bound a band."""

    name: str
    tone: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dots: bool = True


@dataclass(frozen=True)
class Chart:
    """A chart before its layout: series and axes."""

    title: str
    x_name: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    x_ticks: Sequence[float] = ()
    """Tick positions on the x axis; round numbers if empty."""


@dataclass(frozen=True)
class Cut:
    """Size of a layout, and the maximum number of characters per line of a label."""

    name: str
    width: float
    height: float
    label_width: int


WIDE = Cut("wide", 900, 380, 26)
HALF = Cut("wide", 440, 300, 15)
NARROW = Cut("narrow", 360, 300, 13)


@dataclass(frozen=True)
class Mark:
    """A tick or a dot: position and text."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Label:
    """Name of a line beside its end; the position is the start of the first line of text."""

    x: float
    y: float
    lines: Sequence[str]


@dataclass(frozen=True)
class DrawnCurve:
    """One drawn line: SVG path data and marks."""

    tone: str
    points: Sequence[tuple[float, float]]
    path: str
    band: str
    dots: Sequence[Mark]
    label: Label


@dataclass(frozen=True)
class Picture:
    """A chart laid out in one size, in pixels of its view box."""

    cut: Cut
    chart: Chart
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: Sequence[Mark]
    y_ticks: Sequence[Mark]
    curves: Sequence[DrawnCurve]


def number(value: float) -> str:
    """Format a number as a tick label, such as 0.25, 50 or 10,000."""
    return f"{value:,.10g}"


def draw(chart: Chart, cut: Cut) -> Picture:
    """Lay out a chart in a size; lines that end at the right edge are labelled in the margin."""
    names = [textwrap.wrap(series.name, cut.label_width) or [""] for series in chart.series]
    margin = max(len(line) for lines in names for line in lines) * CHARACTER_WIDTH + LABEL_GAP
    every_y = [value for series in chart.series for value in (*series.y, *series.low, *series.high)]
    y_values = (
        log_ticks(min(every_y), max(every_y)) if chart.log_y else linear_ticks(min(every_y), max(every_y))
    )
    left = max(len(number(value)) for value in y_values) * CHARACTER_WIDTH + 12
    right, top, bottom = cut.width - margin, 34.0, cut.height - 46
    y_scale = AxisScale(y_values[0], y_values[-1], bottom, top, chart.log_y)
    every_x = [value for series in chart.series for value in series.x]
    round_numbers = log_ticks if chart.log_x else linear_ticks
    x_values = chart.x_ticks or [v for v in round_numbers(min(every_x), max(every_x)) if v <= max(every_x)]
    x_scale = AxisScale(x_values[0], max(every_x), left + 8, right - 4, chart.log_x)
    x_gap = max(len(number(value)) for value in x_values) * CHARACTER_WIDTH + 8
    curves = [
        _curve(series, lines, x_scale, y_scale) for series, lines in zip(chart.series, names, strict=True)
    ]
    return Picture(
        cut=cut,
        chart=chart,
        left=round(left, 1),
        right=round(right, 1),
        top=top,
        bottom=bottom,
        x_ticks=[Mark(x_scale(value), bottom, number(value)) for value in thinned(x_values, x_scale, x_gap)],
        y_ticks=[Mark(left, y_scale(value), number(value)) for value in thinned(y_values, y_scale, 22)],
        curves=_named(curves, right, cut.height - 30),
    )


def _curve(series: Series, lines: Sequence[str], x_scale: AxisScale, y_scale: AxisScale) -> DrawnCurve:
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
    points = [(dot.x, dot.y) for dot in dots]
    return DrawnCurve(
        series.tone, points, _path(points), band, dots if series.dots else (), Label(*points[-1], lines)
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _named(curves: Sequence[DrawnCurve], right: float, floor: float) -> list[DrawnCurve]:
    """Place the labels of lines that reach the right edge in the margin, and the others at the end of the line."""
    ends = [curve.points[-1] for curve in curves]
    heights = [len(curve.label.lines) * LINE_HEIGHT for curve in curves]
    in_margin = [index for index, (x, _) in enumerate(ends) if x > right - EDGE]
    tops = spread([(ends[index][1], heights[index]) for index in in_margin], floor)
    labels = [_label_inside(curve, curves) for curve in curves]
    for index, top in zip(in_margin, tops, strict=True):
        x, y = round(right + LABEL_GAP, 1), round(top + LINE_HEIGHT - 4, 1)
        labels[index] = Label(x, y, curves[index].label.lines)
    return [replace(curve, label=label) for curve, label in zip(curves, labels, strict=True)]


def spread(wanted: Sequence[tuple[float, float]], floor: float) -> list[float]:
    """Move boxes vertically so that they do not overlap, by one pass down and one pass up.

    Args:
        wanted: Middle and height of each box, in pixels downwards.
        floor: Lowest position that a box may reach.

    Returns:
        The top of each box; the order of the middles is preserved.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index][0])
    tops = [0.0] * len(wanted)
    below = 0.0
    for index in order:
        middle, height = wanted[index]
        tops[index] = max(below, middle - height / 2)
        below = tops[index] + height + 3
    above = floor
    for index in reversed(order):
        tops[index] = min(tops[index], above - wanted[index][1])
        above = tops[index] - 3
    return tops


def _label_inside(curve: DrawnCurve, curves: Sequence[DrawnCurve]) -> Label:
    """Place a label above or below the end of a line, whichever is farther from the other lines."""
    x, y = curve.points[-1]
    lines = curve.label.lines
    height = (len(lines) - 1) * LINE_HEIGHT
    width = max(map(len, lines)) * CHARACTER_WIDTH
    others = [
        _height_at(place, other.points)
        for other in curves
        if other is not curve
        for place in (x, x + width / 2, x + width)
    ]

    def clearance(baseline: float) -> float:
        return min((abs(baseline - 4 + height / 2 - other) for other in others), default=0.0)

    baseline = max((y - 10 - height, y + 20), key=clearance)
    return Label(x, round(baseline, 1), lines)


def _height_at(x: float, points: Sequence[tuple[float, float]]) -> float:
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1 and x1 > x0:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return math.inf  # the line does not extend to x
