"""The training clock: progress and learning rates by steps, or by minutes if those end first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.recipe import TrainSettings
from palate.training import clock as clocks
from palate.training.clock import LOWEST_RATE, Clock

schedules = st.sampled_from(["cosine", "linear", "constant"])


@pytest.fixture
def now(monkeypatch):
    """A time that the test moves, in seconds."""
    time = [1000.0]
    monkeypatch.setattr(clocks.time, "monotonic", lambda: time[0])
    return time


@given(schedule=schedules, warmup=st.floats(0, 0.9), steps=st.integers(1, 1000), data=st.data())
def test_rates_rise_to_the_peak_and_never_rise_again(schedule, warmup, steps, data):
    clock = Clock(TrainSettings(lr_scheduler_type=schedule, warmup_ratio=warmup, max_steps=steps))
    rates = [clock.rate(step) for step in range(steps + 1)]
    top = next(step for step in range(steps + 1) if step / steps >= warmup)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize(
    ("schedule", "middle", "end"),
    [
        ("cosine", 0.5 * (1 + LOWEST_RATE), LOWEST_RATE),
        ("linear", 0.5 * (1 + LOWEST_RATE), LOWEST_RATE),
        ("constant", 1.0, 1.0),
    ],
)
def test_where_the_schedules_pass_and_end(schedule, middle, end):
    clock = Clock(TrainSettings(lr_scheduler_type=schedule, warmup_ratio=0.2, max_steps=100))
    assert clock.rate(10) == pytest.approx(0.5)
    assert clock.rate(20) == pytest.approx(1.0)
    assert clock.rate(60) == pytest.approx(middle)
    assert clock.rate(100) == pytest.approx(end)
    assert clock.rate(110) == pytest.approx(end)  # a step too many does not bounce


def test_without_a_rise_the_first_step_is_the_peak():
    assert Clock(TrainSettings(warmup_ratio=0.0, max_steps=10)).rate(0) == 1.0


def test_a_time_limit_that_binds_squeezes_the_schedule(now):
    settings = TrainSettings(max_steps=1000, max_minutes=2, warmup_ratio=0.1, lr_scheduler_type="linear")
    clock = Clock(settings)
    assert clock.progress(10) == 0.01
    now[0] += 60
    assert clock.progress(10) == 0.5
    assert clock.rate(10) == Clock(
        TrainSettings(max_steps=1000, warmup_ratio=0.1, lr_scheduler_type="linear")
    ).rate(500)
    now[0] += 60
    assert clock.progress(10) == 1.0
    assert clock.rate(10) == pytest.approx(LOWEST_RATE)


def test_a_time_limit_that_does_not_bind_changes_nothing(now):
    clock = Clock(TrainSettings(max_steps=100, max_minutes=60))
    now[0] += 30
    assert [clock.progress(step) for step in (1, 50, 100)] == [0.01, 0.5, 1.0]


def test_without_a_time_limit_time_does_not_matter(now):
    clock = Clock(TrainSettings(max_steps=100))
    now[0] += 10**6
    assert clock.progress(5) == 0.05


def test_time_of_an_earlier_process_counts(now):
    clock = Clock(TrainSettings(max_steps=100, max_minutes=1))
    now[0] += 500  # loading
    clock.restart(45.0)
    now[0] += 5
    assert clock.seconds == 50
    assert clock.progress(0) == pytest.approx(50 / 60)
