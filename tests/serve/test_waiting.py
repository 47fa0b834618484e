"""An attribution whose client disconnects is cancelled, and the next one starts."""

import time

import httpx
import pytest

import palate
from palate.evaluation import attribution
from palate.model.model import PersonalizedModel
from serving import refusal

HISTORY = [{"item_id": str(number), "rating": 1 + number % 5} for number in range(1, 41)]


@pytest.fixture
def passes(monkeypatch):
    """Counts the passes of an attribution, each of which leaves out one event and takes a while."""
    made, score = [], PersonalizedModel.log_likelihood

    def slowly(self, prompts, *rest):
        made.append(len(prompts.mask))
        time.sleep(0.2)
        return score(self, prompts, *rest)

    monkeypatch.setattr(attribution, "AT_ONCE", 1)
    monkeypatch.setattr(PersonalizedModel, "log_likelihood", slowly)
    return made


def test_more_passes_give_the_same(server, passes):
    few = HISTORY[:7]
    in_many = server.post("/attributions", json={"history": few}).json()
    assert passes == [1] * 8
    attribution.AT_ONCE = 32
    in_one = server.post("/attributions", json={"history": few}).json()
    assert passes == [1] * 8 + [8]
    assert in_many["text"] == in_one["text"]
    assert [one["influence"] for one in in_many["items"]] == pytest.approx(
        [one["influence"] for one in in_one["items"]], abs=1e-3
    )


def test_an_attribution_ends_when_its_time_is_up(serve, passes):
    server = serve(limits={"seconds": 3})
    refused = server.post("/attributions", json={"history": HISTORY})
    assert "the request took longer than 3 seconds; ask for less, or try again" in refusal(refused, 503)
    begun = len(passes)
    assert 0 < begun < len(HISTORY)
    assert server.post("/attributions", json={"history": HISTORY[:1]}).status_code == 200
    assert len(passes) == begun + 2  # those of the second one alone


def test_an_attribution_ends_when_the_client_has_gone(listening, passes):
    url = listening()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/attributions", json={"history": HISTORY}, timeout=0.5)
    gone = 'palate_requests_total{method="POST",route="/attributions",status="499"}'
    while gone not in httpx.get(f"{url}/metrics").text:
        time.sleep(0.05)
    begun = len(passes)
    assert begun < len(HISTORY)
    assert len(palate.Client(url).attribution(history=HISTORY[:1])["items"]) == 1
    assert len(passes) == begun + 2
