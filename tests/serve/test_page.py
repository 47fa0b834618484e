"""Endpoints of the page, views and attributions, and its static files."""

import re

import pytest

from palate.evaluation.attribution import attribute
from palate.serve.pages import _PARTS

KEY = "a-key-of-the-test"


def test_an_attribution_is_the_functions_own(server, events, model):
    from palate.serve.schemas import GivenEvent, given_history

    history, _ = given_history([GivenEvent(**event) for event in events], None)
    expected = attribute(model, history)
    given = server.post("/attributions", json={"history": events}).json()
    assert given["text"] == expected.answer
    assert given["log_probability"] == pytest.approx(expected.log_probability, abs=1e-3)
    assert [one["influence"] for one in given["items"]] == pytest.approx(list(expected.influence), abs=1e-3)
    asked = {"questions": [{"history": events}]}
    assert server.post("/answers", json=asked).json()["answers"][0]["text"] == given["text"]


def test_a_stored_user_is_explained_like_the_same_history(server, events):
    server.post("/users/ann/events", json=events)
    for path in ("/views", "/attributions"):
        stored, given = (
            server.post(path, json=who).json() for who in ({"user_id": "ann"}, {"history": events})
        )
        assert {**stored, "user_id": None, "version": None} == given


@pytest.mark.parametrize("kind", ["streaming", "uem"])
def test_a_view_has_what_can_be_had(serve, run_of, events, kind):
    view = serve(of=run_of(kind)).post("/views", json={"history": events}).json()
    assert all((one["liked"] is None) == (kind == "uem") for one in view["categories"])
    assert sum(one["count"] for one in view["categories"]) > 0


def test_a_history_too_long_to_explain_is_refused(serve, events):
    server = serve(limits={"attributed": 4})
    server.post("/users/ann/events", json=events)
    for who, found in (
        ({"history": events}, "found 8 events"),
        ({"user_id": "ann"}, "found more than 4 events"),
    ):
        refused = server.post("/attributions", json=who)
        assert refused.status_code == 422
        assert found in refused.json()["detail"]


def test_users_are_found_by_how_they_begin(server, events):
    for user_id in ("bob", "ann_2", "ann%1"):
        server.post(f"/users/{user_id.replace('%', '%25')}/events", json=events)
    found = [server.get("/users", params={"starting": one}).json()["users"] for one in ("", "ann_", "%")]
    assert found == [["ann%1", "ann_2", "bob"], ["ann_2"], []]


def test_no_page_refers_to_another_host(serve, tmp_path):
    (tmp_path / "keys").write_text(KEY + "\n")
    server = serve(key_file=tmp_path / "keys")
    for path in ("/", "/docs", *(f"/page/{name}" for name in _PARTS)):
        answered = server.get(path)
        assert answered.status_code == 200
        assert "script-src 'self';" in answered.headers["content-security-policy"]
        if "swagger" not in path:
            assert not re.search(r"(?:https?:)?//[a-z]", answered.text)
    assert server.get("/users").status_code == 401
    assert server.get("/page/..%2F__init__.py").status_code in (401, 404)
