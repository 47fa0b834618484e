import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from palate.report.pictures import NARROW, WIDE, Chart, Series, draw, spread
from palate.report.scales import AxisScale, linear_ticks, log_ticks, round_step, thinned

values = st.floats(-1e3, 1e3)
positive = st.floats(1e-4, 1e6)


@given(values, st.floats(1e-2, 1e6))
def test_linear_ticks_cover_the_values_in_few_round_steps(low, span):
    ticks = linear_ticks(low, low + span)
    step = round_step(span, 5)
    slack = 1e-6 * max(step, abs(low))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 7
    assert all(math.isclose(b - a, step, rel_tol=1e-3) for a, b in pairwise(ticks))


def test_ticks_of_known_spans():
    assert linear_ticks(0.08, 0.9) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert linear_ticks(0.5, 0.5)[0] == 0.5
    assert log_ticks(0.3, 7.5) == [0.2, 0.5, 1, 2, 5, 10]
    assert log_ticks(1, 1) == [1]


@given(positive, st.floats(1, 1e6))
def test_log_ticks_cover_the_values(low, ratio):
    ticks = log_ticks(low, low * ratio)
    assert ticks[0] <= low * (1 + 1e-9)
    assert ticks[-1] >= low * ratio * (1 - 1e-9)
    assert ticks == sorted(ticks)


@given(st.lists(st.floats(1, 1000), min_size=2, unique=True), st.booleans())
def test_a_scale_keeps_order_and_ends(points, log):
    points.sort()
    scale = AxisScale(points[0], points[-1], 10, 500, log)
    places = [scale(point) for point in points]
    assert (places[0], places[-1]) == (10, 500)
    assert places == sorted(places)


def test_a_scale_without_width_stands_in_the_middle():
    assert AxisScale(50, 50, 0, 100, log=True)(50) == 50


def test_thinned_ticks_have_room_and_keep_the_last():
    scale = AxisScale(1, 200, 0, 300)
    kept = thinned([1, 2, 5, 10, 50, 100, 200], scale, 40)
    assert kept[-1] == 200
    assert all(scale(b) - scale(a) >= 40 for a, b in pairwise(kept))


@given(st.lists(st.tuples(st.floats(30, 330), st.sampled_from([15.0, 30.0])), max_size=8))
def test_labels_never_overlap_and_stay_in_order(wanted):
    tops = spread(wanted, 350)
    boxes = sorted((top, top + height, middle) for top, (middle, height) in zip(tops, wanted, strict=True))
    assert all(b[0] - a[1] >= 3 - 1e-6 for a, b in pairwise(boxes))
    assert all(bottom <= 350 + 1e-6 for _, bottom, _ in boxes)
    assert [box[2] for box in boxes] == sorted(box[2] for box in boxes)


def test_a_label_alone_stands_beside_its_line():
    assert spread([(100, 15.0)], 350) == [92.5]


def chart(*series, **settings):
    return Chart("Liked F1", "interactions", series, **settings)


def test_lines_stay_inside_their_axes_in_every_cut():
    long = Series(
        "A rather long name of a model",
        "model-1",
        (5, 50, 200),
        (0.1, 0.5, 0.9),
        (0, 0.4, 0.8),
        (0.2, 0.6, 1),
    )
    for cut in (WIDE, NARROW):
        picture = draw(chart(long, log_x=True, x_ticks=(5, 50, 200)), cut)
        (curve,) = picture.curves
        assert all(picture.left < dot.x <= picture.right for dot in curve.dots)
        assert all(picture.top <= dot.y <= picture.bottom for dot in curve.dots)
        assert curve.label.x > picture.right
        assert [tick.text for tick in picture.x_ticks] == ["5", "50", "200"]
        assert " ".join(curve.label.lines) == long.name
    assert draw(chart(long), WIDE).x_ticks[0].x > 0


def test_a_line_that_ends_early_is_named_at_its_end_away_from_the_others():
    short = Series("Text", "model-2", (5, 10), (0.3, 0.3))
    over = Series("Over", "model-1", (5, 200), (0.34, 0.34))
    under = Series("Under", "model-3", (5, 200), (0.26, 0.26))
    beneath = draw(chart(short, over, Series("Low", "rule", (5, 200), (0, 0))), WIDE).curves[0]
    above = draw(chart(short, under, Series("High", "rule", (5, 200), (1, 1))), WIDE).curves[0]
    assert beneath.label.x == beneath.points[-1][0]
    assert beneath.label.y > beneath.points[-1][1]
    assert above.label.y < above.points[-1][1]


def test_a_single_point_can_be_drawn():
    picture = draw(
        chart(Series("UEM", "model-1", (50,), (0.4,), (0.38,), (0.42,)), log_x=True, x_ticks=(50,)), WIDE
    )
    assert picture.curves[0].band == ""
    assert len(picture.curves[0].dots) == 1


def test_a_logarithmic_axis_without_given_ticks_has_powers():
    chart = Chart("F1", "cost", [Series("a", "rule", [6.7, 19.7, 410.0], [0.1, 0.2, 0.3])], log_x=True)
    picture = draw(chart, WIDE)
    assert [tick.text for tick in picture.x_ticks] == ["5", "10", "20", "50", "100", "200"]
    places = [dot.x for dot in picture.curves[0].dots]
    assert places == sorted(places)
    assert picture.left <= places[0] < places[-1] <= picture.right
