"""Fuzzing: any request, valid by the OpenAPI document or not, gets a documented response."""

import json
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from palate.serve.settings import Limits

CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]
DELIBERATE = (503,)
PATIENCE = 2 * Limits().seconds
"""Seconds: the server has said by then that a request takes too long, however busy the machine is."""

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda some: st.lists(some) | st.dictionaries(st.text(), some),
)
LINE = ANYTHING | st.fixed_dictionaries(
    {"user_id": st.text(max_size=5) | ANYTHING, "item_id": ANYTHING, "rating": ANYTHING},
    optional={"timestamp": st.integers(), "event_id": st.text(max_size=3)},
)


@schemathesis.serializer("application/x-ndjson")
def as_it_is(context, body):
    return body if isinstance(body, bytes) else str(body).encode("utf-8", "surrogatepass")


def with_known_items(value, draw):
    """The same with items and ratings that the model knows, so that events get past them."""
    if isinstance(value, dict):
        known = {"item_id": lambda: str(draw(st.integers(1, 60))), "rating": lambda: draw(st.integers(1, 5))}
        known |= dict.fromkeys(("event_type", "dwell"), lambda: None)  # which data with ratings does not have
        if "item_id" in value and "title" not in value:
            value = {**value, "rating": None}
        return {
            key: known[key]() if key in known else with_known_items(one, draw) for key, one in value.items()
        }
    return [with_known_items(one, draw) for one in value] if isinstance(value, list) else value


def fuzz(url, most):
    """Ask every operation ``most`` times; gives the statuses by operation."""
    statuses = {}
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()
        statuses[operation.label] = _ask(operation, most)
    return statuses


def _ask(operation, most):
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    statuses = []

    @settings(max_examples=most, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(data=st.data(), case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes]))
    def ask(data, case):
        if operation.path == "/events" and data.draw(st.booleans()):
            lines = data.draw(st.lists(LINE, max_size=4))
            case.body = "\n".join(json.dumps(with_known_items(line, data.draw)) for line in lines)
        elif data.draw(st.booleans()):
            case.body = with_known_items(case.body, data.draw)
        response = case.call(timeout=PATIENCE)
        statuses.append(response.status_code)
        if response.status_code not in DELIBERATE:
            case.validate_response(response, checks=[not_a_server_error, *CHECKS])

    with suppress(Unsatisfiable):  # what takes no input cannot be given a wrong one
        ask()
    return statuses


def test_some_hundred_requests(listening):
    statuses = fuzz(listening(), 30)
    assert sum(map(len, statuses.values())) > 200
    assert {200, 422} <= set(statuses["POST /users/{user_id}/events"])


@pytest.mark.slow
def test_twenty_thousand_requests(listening):
    statuses = fuzz(listening(), 2_000)
    assert sum(map(len, statuses.values())) >= 20_000
