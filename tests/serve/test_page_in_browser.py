"""The page in a browser: what it shows, whatever the server says and however one sits before it."""

import json
import re
import shutil
from itertools import pairwise

import httpx
import pytest

import palate
import serving
from palate.serve.problems import problem
from palate.serve.settings import Limits

KEY = "a-key-of-the-test"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NARROW = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def url(run, tmp_path_factory):
    """Where a server listens that asks for a key."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "keys").write_text(KEY + "\n")
    settings = {"key_file": folder / "keys", "limits": Limits(seconds=240)}
    with serving.listening(run, folder / "users.sqlite", **settings) as listens:
        yield listens


@pytest.fixture(scope="module")
def client(url, events):
    """A client of the server, which keeps the user ann."""
    with palate.Client(url, KEY, seconds=240) as opened:
        opened.add_events("ann", events)
        yield opened


@pytest.fixture(scope="module")
def chromium():
    driver = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(chromium, url, client):
    """Opens the page, with the key unless it is said otherwise; no script may fail, and no other host be asked."""
    contexts, asked, wrong = [], [], []

    def opened(key=KEY, **settings):
        context = chromium.new_context(**settings)
        contexts.append(context)
        if key:
            context.add_init_script(f"sessionStorage.setItem('palate-key', {json.dumps(key)})")
        page = context.new_page()
        page.set_default_timeout(240_000)  # a busy machine is no failure
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong
    assert all(one.startswith((url, "data:")) and KEY not in one for one in asked)


def ask(page, user=None, history=None):
    page.fill("#user", user or "")
    page.fill("#history", "" if history is None else history)
    page.click("#send")


def done(page):
    page.locator("#said", has_text="Done.").wait_for()


def trouble(page):
    page.locator("#wrong:not(:empty)").wait_for()
    return page.inner_text("#wrong")


def tab_to(page, wanted):
    """Press Tab until the focus is where it is wanted, as someone without a mouse does."""
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id")
        if re.fullmatch(wanted, focused):
            return focused
    raise AssertionError(f"no way to {wanted}")


def fits(page, selector):
    """Whether nothing of it has to be scrolled to from side to side."""
    return page.locator(selector).evaluate("(box) => box.scrollWidth <= box.clientWidth")


def test_the_keyboard_alone_is_enough(visit, events):
    page = visit(key=None, viewport=NARROW)
    assert trouble(page) == "this server asks for an API key"
    tab_to(page, "key")
    page.keyboard.type(KEY)
    tab_to(page, "user")
    page.keyboard.type("ann")
    page.keyboard.press("Enter")
    done(page)
    assert page.locator("#trouble").is_hidden()
    assert page.locator("#events tr").count() == len(events)
    rating = tab_to(page, r"rating-\d+")
    before = page.input_value(f"#{rating}")
    page.keyboard.press("Home" if before != "1" else "End")
    page.locator("#before:not(:empty)").wait_for()
    done(page)
    assert page.evaluate("document.activeElement.id") == rating
    assert page.input_value(f"#{rating}") != before
    assert page.evaluate("sessionStorage.getItem('palate-key')") == KEY
    assert page.evaluate("localStorage.length") == 0
    page.goto(f"{page.url}docs")
    page.locator(".opblock").first.wait_for()


def test_a_wrong_key_is_told_and_a_right_one_goes_on(visit):
    page = visit(key="not-a-key-of-this-server")
    assert trouble(page) == "the server does not know this API key"
    page.fill("#key", KEY)
    ask(page, "ann")
    done(page)
    assert page.locator("#trouble").is_hidden()


def test_a_pasted_history_is_answered_as_by_the_api(visit, client, events):
    new = {"title": "Alien (1979)", "categories": ["Sci-Fi"], "rating": 5}
    history = [{name: one[name] for name in ("item_id", "rating")} for one in events] + [new]
    page = visit()
    ask(page, history=json.dumps(history))
    done(page)
    assert page.inner_text("#answer") == client.answer(history=history)
    assert page.inner_text("#read") == "Read from 9 pasted events."
    shown = page.locator("#events th").all_inner_texts()
    assert len(shown) == 9
    assert any(title.startswith("Alien") for title in shown)
    assert any(title.startswith("Film ") for title in shown)
    influences = page.locator("#events td:last-child").all_inner_texts()
    influences = [float(one.replace("−", "-")) for one in influences]
    assert all(one >= after for one, after in pairwise(influences))


@pytest.mark.parametrize(
    ("pasted", "said"),
    [
        ("", "nobody to ask about; choose a user of the store, or paste a history"),
        ("[{", "the history is not valid JSON: "),
        ('{"item_id": "1"}', "the history is not a list of events; expected [{"),
        ("[null]", "the history is not a list of events; expected [{"),
        ('[{"item_id": "1"}]', "history.0: rating is missing, expected a number"),
        ('[{"item_id": "1", "rating": 17}]', "the rating 17 is not on the model's scale; expected one of 1,"),
        ('[{"item_id": "none such", "rating": 1}]', "1 item id is not known: 'none such'"),
    ],
)
def test_a_history_that_cannot_be_read_says_why(visit, pasted, said):
    page = visit()
    ask(page, history=pasted)
    assert trouble(page).startswith(said)
    assert page.locator("#result").is_hidden()
    assert page.locator("#again").is_hidden()
    assert page.input_value("#history") == pasted


def test_one_is_asked_about_at_a_time(visit):
    page = visit()
    ask(page, "ann")
    done(page)
    ask(page, "nobody")
    assert trouble(page) == "no user 'nobody' in the store; send an event of theirs first"
    assert page.locator("#result").is_hidden()
    ask(page, "ann", "[]")
    assert trouble(page) == "both a user and a history are given; clear one of them"


@pytest.mark.parametrize(
    ("status", "detail", "said"),
    [
        (429, "8 questions are waiting already; try again in 7 s", "8 questions are waiting already"),
        (503, "not done in 30 seconds; ask for less, or try again", "not done in 30 seconds; ask for less"),
    ],
)
def test_a_busy_server_says_when_to_try_again(visit, status, detail, said):
    page, busy = visit(), problem(status, detail, {"Retry-After": "7"})
    refused = {"status": status, "headers": dict(busy.headers), "body": busy.body.decode()}
    page.route("**/answers", lambda route: route.fulfill(**refused), times=1)
    ask(page, "ann")
    assert trouble(page) == f"{said}; try again in 7 s"
    assert page.locator("#result").is_hidden()
    page.click("#again")
    done(page)
    assert page.locator("#trouble").is_hidden()
    assert page.inner_text("#answer")


def test_influences_wait_for_another_ones(visit, events):
    page, busy = (
        visit(),
        problem(429, "1 questions are waiting already; try again in 1 s", {"Retry-After": "1"}),
    )
    refused = {"status": 429, "headers": dict(busy.headers), "body": busy.body.decode()}
    page.route("**/attributions", lambda route: route.fulfill(**refused), times=1)
    ask(page, "ann")
    page.locator("#influence-note", has_text="trying again in 1 s").wait_for()
    done(page)
    assert page.locator("#events .meter").count() == len(events)


def test_no_server_and_no_json_are_told(visit):
    page = visit()
    page.route("**/users/ann/history*", lambda route: route.abort(), times=1)
    ask(page, "ann")
    assert trouble(page) == "the server cannot be reached; is it running?"
    page.route("**/users/ann/history*", lambda route: route.fulfill(status=502, body="<html>"), times=1)
    page.click("#send")
    page.locator("#wrong", has_text="the server said 502").wait_for()


def test_a_changed_rating_changes_what_is_shown_and_nothing_that_is_kept(visit, client, events):
    page, kept = visit(), client.history("ann")["events"]
    ask(page, "ann")
    done(page)
    answer, order = page.inner_text("#answer"), page.locator("#likes th").all_inner_texts()
    rating = 1 if kept[3]["rating"] != 1 else 5
    page.select_option("#rating-3", str(rating))
    page.locator("#before:not(:empty)").wait_for()
    done(page)
    changed = [{name: one[name] for name in ("item_id", "rating", "timestamp")} for one in kept]
    changed[3]["rating"] = rating
    expected = client.answer(history=changed)
    assert page.inner_text("#answer") == expected
    same = "The answer is the same as before." if expected == answer else f"Before: {answer}"
    assert page.inner_text("#before") == same
    assert page.locator("#likes th").all_inner_texts() == order
    view = httpx.post(
        f"{page.url}views", json={"history": changed}, headers={"Authorization": f"Bearer {KEY}"}
    ).json()
    liked = {one["name"]: one["liked"] for one in view["categories"]}
    shown = page.locator("#likes tr td:nth-child(2)").all_inner_texts()
    assert [int(re.match(r"\d+", text)[0]) for text in shown] == [
        pytest.approx(100 * liked[name], abs=0.51) for name in order
    ]
    assert client.history("ann")["events"] == kept


def test_an_item_is_left_out_and_taken_in_again(visit, client, events):
    page = visit()
    ask(page, "ann")
    done(page)
    page.select_option("#rating-2", label="out")
    page.locator("#before:not(:empty)").wait_for()
    done(page)
    kept = [one for number, one in enumerate(sorted(events, key=lambda one: one["timestamp"])) if number != 2]
    assert page.inner_text("#answer") == client.answer(history=kept)
    assert page.locator("#events tr").count() == len(events)
    assert page.locator("#events .meter").count() == len(kept)
    page.select_option("#rating-2", index=0)
    page.locator("#events .meter").nth(len(kept)).wait_for()
    done(page)
    assert page.input_value("#rating-2") == "1"


def test_a_long_history_says_what_is_read_of_it(visit, client, tiny_data):
    items = [
        {"item_id": f"long-{n}", "title": f"Item {n % 5}", "categories": ["Drama"]} for n in range(1_034)
    ]
    client.add_items(items)
    events = [{"item_id": one["item_id"], "rating": 1 + n % 5, "timestamp": n} for n, one in enumerate(items)]
    client.add_events("long", [*events[:1_000], {**events[0], "timestamp": 1_000}])  # one of them rated again
    page = visit()
    ask(page, "long")
    done(page)
    assert page.inner_text("#read") == "Read from 1,000 events of user long."
    client.add_events("long", events[1_000:])
    ask(page, "long")
    done(page)
    assert page.inner_text("#read") == (
        "Read from the newest 1,000 events of user long; older ones play no part here."
    )
    assert page.inner_text("#influence-note").startswith(
        "Influences are not shown: history: found 1,000 events"
    )
    assert page.locator("#events tr").count() == 50
    assert page.locator("#rating-999").count() == 1  # the newest come first
    page.click("#more")
    assert page.locator("#events tr").count() == 1_000
    assert page.evaluate("document.activeElement.id") == "rating-949"
    assert page.locator("#more").is_hidden()


LUMINANCE = """
(selector) => {
  const found = document.querySelector(selector), channels = (text) => text.match(/[\\d.]+/g).map(Number);
  let under = found;
  while (channels(getComputedStyle(under).backgroundColor)[3] === 0) under = under.parentElement;
  return [getComputedStyle(found).color, getComputedStyle(under).backgroundColor].map((colour) => {
    const linear = (one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
    const [red, green, blue] = channels(colour).map((one) => linear(one / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  });
}
"""
TEXTS = (
    "h1",
    ".lead",
    "label",
    "#user",
    "#history",
    "#send",
    "#answer",
    "#read",
    "#view-note",
    "#likes th",
    "#likes td",
    "#events th",
    "#events .meter",
    "#events select",
    "thead th",
    "#wrong",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [NARROW, {"width": 1100, "height": 800}], ids=["narrow", "wide"])
def test_everything_can_be_read(visit, scheme, viewport):
    page = visit(color_scheme=scheme, viewport=viewport)
    ask(page, "ann")
    done(page)
    for text in TEXTS:
        ink, paper = page.evaluate(LUMINANCE, text)
        assert (ink > paper) == ((scheme == "dark") != (text == "#send")), text
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, text
    assert fits(page, "html")
    for table in ("#likes", "#events"):
        assert fits(page, f".scroll:has({table})")
        cells = page.locator(f"{table} :is(th, td)")
        boxes = [cells.nth(number).bounding_box() for number in range(4)]
        assert all(one["width"] >= 40 and one["x"] + one["width"] <= viewport["width"] for one in boxes)
