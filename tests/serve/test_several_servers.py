"""Several servers on one PostgreSQL: shared events, and rolling restarts."""

import threading
import time
from contextlib import ExitStack

import httpx
import pytest

from palate.serve.store.changes import Event
from palate.serve.store.store import UserStore
from serving import started

pytestmark = pytest.mark.slow
ITEMS = 60


@pytest.fixture
def address(postgres):
    return postgres.new_database(f"several{time.monotonic_ns()}")


def event(number):
    return {
        "event_id": f"e{number}",
        "item_id": str(number % ITEMS + 1),
        "rating": number % 5 + 1,
        "timestamp": number,
    }


def test_events_through_one_server_are_known_to_the_next(run, tmp_path, address):
    """Each event goes to another server than the last, and is asked about at a third."""
    with ExitStack() as stack:
        urls = [stack.enter_context(started(run, tmp_path, "--store", address)).url for _ in range(3)]
        with httpx.Client(timeout=60) as http:
            for number in range(30):
                sent = http.post(
                    f"{urls[number % 3]}/users/ann/events", json=event(number)
                ).raise_for_status()
                assert sent.json()["version"] == number + 1
                found = http.get(f"{urls[(number + 1) % 3]}/users/ann/prompt").raise_for_status()
                assert versions_of(found) == number + 1
            prompts = [http.get(f"{url}/users/ann/prompt").content for url in urls]
    assert prompts[0] == prompts[1] == prompts[2]


def versions_of(response):
    """The version of the history that a prompt was made of."""
    return int(response.headers["ETag"].strip('"'))


class Client(threading.Thread):
    """Sends events to whichever server answers, as a load balancer lets it; knows which were acknowledged."""

    def __init__(self, name, servers):
        super().__init__()
        self.user, self.servers = name, servers
        self.acknowledged, self.failed, self.ended = [], [], threading.Event()

    def run(self):
        number = 0
        with httpx.Client(timeout=60) as http:
            while not self.ended.is_set():
                for url in list(self.servers):
                    try:
                        sent = http.post(f"{url}/users/{self.user}/events", json=event(number))
                    except httpx.HTTPError:  # it no longer listens: the next one does
                        continue
                    if sent.status_code == 503:
                        continue
                    (self.acknowledged if sent.status_code == 200 else self.failed).append(number)
                    break
                else:
                    self.failed.append(number)
                number += 1


def test_a_rolling_restart_loses_no_request(run, tmp_path, address):
    with ExitStack() as stack:
        servers = [stack.enter_context(started(run, tmp_path, "--store", address)) for _ in range(2)]
        listening = [one.url for one in servers]
        clients = [Client(f"user-{number}", listening) for number in range(3)]
        for client in clients:
            client.start()
        for old in servers:
            while not all(client.acknowledged for client in clients):
                time.sleep(0.02)
            listening.append(stack.enter_context(started(run, tmp_path, "--store", address)).url)
            listening.remove(old.url)  # as a load balancer that drains it
            assert old.stop() in (0, 143, -15)
        time.sleep(0.5)
        for client in clients:
            client.ended.set()
            client.join()
    store = UserStore(address)
    for client in clients:
        assert not client.failed
        found = store.history(client.user)
        assert found.version == len(client.acknowledged)
        again = store.append({client.user: [Event(**event(client.acknowledged[-1]))]})[client.user]
        assert (again.new, again.known) == (0, 1)
    store.close()
