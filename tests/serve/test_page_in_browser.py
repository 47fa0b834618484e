"""The page in a browser: every response of the server, by mouse and keyboard, at several sizes and colour schemes."""

import json
import re
import shutil
from itertools import pairwise

import pytest

import palate
import serving
from palate.serve.problems import problem
from palate.serve.settings import Limits

KEY = "a-key-of-the-test"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NARROW = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def url(run, recommender_run, tmp_path_factory):
    """Where a server of both models listens that asks for a key."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "keys").write_text(KEY + "\n")
    settings = {"key_file": folder / "keys", "limits": Limits(seconds=240), "recommender": recommender_run}
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

    def opened(key=KEY, where="", **settings):
        context = chromium.new_context(**settings)
        contexts.append(context)
        if key:
            context.add_init_script(f"sessionStorage.setItem('palate-key', {json.dumps(key)})")
        page = context.new_page()
        page.set_default_timeout(240_000)  # a busy machine is no failure
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{url}/{where}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong
    assert all(one.startswith((url, "data:")) and KEY not in one for one in asked)


def ask(page, user=None, history=None):
    """Choose whom to look at; what is shown first is waited for."""
    page.locator("#result:visible:not([aria-busy]), #trouble:visible").wait_for()
    page.fill("#user", user or "")
    if not page.locator("#history").is_visible():
        page.click("#own summary")
    page.fill("#history", "" if history is None else history)
    page.click("#send")


def done(page):
    page.locator("#result:visible:not([aria-busy])").wait_for()


def shown(page, user):
    """A page that shows a user."""
    ask(page, user)
    page.locator("#read", has_text=f"of user {user}").wait_for()
    done(page)
    return page


def trouble(page):
    page.locator("#wrong:not(:empty)").wait_for()
    return page.inner_text("#wrong")


def tab_to(page, wanted):
    """Press Tab until the focus is where it is wanted, as someone without a mouse does."""
    for _ in range(80):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id")
        if re.fullmatch(wanted, focused):
            return focused
    raise AssertionError(f"no way to {wanted}")


def fits(page, selector):
    """Whether nothing of it has to be scrolled to from side to side."""
    return page.locator(selector).evaluate("(box) => box.scrollWidth <= box.clientWidth")


def rating_of(page, title):
    """The id of the choice of an item's rating."""
    return page.get_by_label(f"Rating of {title}", exact=True).get_attribute("id")


def test_it_opens_on_somebody_of_the_store(visit, client):
    page = visit()
    done(page)
    user = client.example()["user_id"]
    assert page.input_value("#user") == user
    assert page.inner_text("#answer") == client.answer(user)
    assert page.locator("#next li").count() == 6
    assert page.locator("#likes tr").count() > 0
    assert page.locator("#course .wide polyline").count() == 4


def test_the_keyboard_alone_is_enough(visit, events):
    page = visit(key=None, viewport=NARROW)
    assert trouble(page) == "this server requires an API key"
    tab_to(page, "key")
    page.keyboard.type(KEY)
    tab_to(page, "user")
    done(page)
    page.keyboard.press("Control+A")
    page.keyboard.type("ann")
    page.keyboard.press("Enter")
    page.locator("#read", has_text="of user ann").wait_for()
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
    page.goto(f"{page.url.partition('#')[0]}docs")
    page.locator(".opblock").first.wait_for()


def test_a_wrong_key_is_told_and_a_right_one_goes_on(visit):
    page = visit(key="not-a-key-of-this-server")
    assert trouble(page) == "the server does not know this API key"
    page.fill("#key", KEY)
    shown(page, "ann")
    assert page.locator("#trouble").is_hidden()


def test_a_pasted_history_is_answered_as_by_the_api(visit, client, events):
    new = {"title": "Alien (1979)", "categories": ["Sci-Fi"], "rating": 5}
    history = [{name: one[name] for name in ("item_id", "rating")} for one in events] + [new]
    page = visit()
    ask(page, history=json.dumps(history))
    page.locator("#read", has_text="of the given history").wait_for()
    done(page)
    assert page.inner_text("#answer") == client.answer(history=history)
    assert page.inner_text("#read") == "9 events of the given history."
    titles = page.locator("#events th").all_inner_texts()
    assert len(titles) == 9
    assert any(title.startswith("Alien") and "Sci-Fi" in title for title in titles)
    assert any(title.startswith("Film ") for title in titles)
    page.select_option("#order", "driving")
    influences = page.locator("#events .moves").all_inner_texts()
    influences = [float(one.replace("−", "-")) for one in influences]
    assert all(one >= after for one, after in pairwise(influences))


@pytest.mark.parametrize(
    ("pasted", "said"),
    [
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
    page = shown(visit(), "ann")
    ask(page, "nobody")
    assert trouble(page) == "no user 'nobody' in the store; add an event of this user first"
    assert page.locator("#result").is_hidden()
    ask(page, "nobody", "[]")
    assert trouble(page) == "both a user and a history are given; clear one of them"


@pytest.mark.parametrize(
    ("status", "detail", "said"),
    [
        (429, "8 questions are waiting already; try again in 7 s", "8 questions are waiting already"),
        (
            503,
            "the request took longer than 30 seconds; ask for less, or try again",
            "the request took longer than 30 seconds; ask for less",
        ),
    ],
)
def test_a_busy_server_says_when_to_try_again(visit, status, detail, said):
    page, busy = shown(visit(), "ann"), problem(status, detail, {"Retry-After": "7"})
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
        shown(visit(), "ann"),
        problem(429, "1 questions are waiting already; try again in 1 s", {"Retry-After": "1"}),
    )
    refused = {"status": 429, "headers": dict(busy.headers), "body": busy.body.decode()}
    page.route("**/attributions", lambda route: route.fulfill(**refused), times=1)
    ask(page, "ann")
    page.locator("#influence-note", has_text="trying again in 1 s").wait_for()
    done(page)
    assert page.locator("#events .meter").count() == len(events)


def test_no_server_and_no_json_are_told(visit):
    page = shown(visit(), "ann")
    page.route("**/users/ann/history*", lambda route: route.abort(), times=1)
    ask(page, "ann")
    assert trouble(page) == "the server cannot be reached; is it running?"
    page.route("**/users/ann/history*", lambda route: route.fulfill(status=502, body="<html>"), times=1)
    page.click("#send")
    page.locator("#wrong", has_text="the server said 502").wait_for()


def test_a_part_that_fails_says_so_and_the_others_stand(visit):
    page = shown(visit(), "ann")
    for path in ("tastes", "recommendations"):
        page.route(f"**/{path}", lambda route: route.fulfill(status=502, body="<html>"))
    ask(page, "ann")
    page.locator("#taste-note", has_text="The taste is not shown: the server said 502").wait_for()
    done(page)
    assert page.inner_text("#next-note").startswith("Nothing is recommended: the server said 502")
    assert page.inner_text("#answer")


def test_a_changed_rating_changes_what_is_shown_and_nothing_that_is_kept(visit, client, events):
    page, kept = shown(visit(), "ann"), client.history("ann")["events"]
    answer, order = page.inner_text("#answer"), page.locator("#likes th").all_inner_texts()
    titles = page.locator("#events th").all_inner_texts()
    choice, rating = rating_of(page, kept[3]["title"]), 1 if kept[3]["rating"] != 1 else 5
    page.select_option(f"#{choice}", str(rating))
    page.locator("#before:not(:empty)").wait_for()
    done(page)
    changed = [{name: one[name] for name in ("item_id", "rating", "timestamp")} for one in kept]
    changed[3]["rating"] = rating
    expected = client.answer(history=changed)
    assert page.inner_text("#answer") == expected
    marked = set(page.locator("#answer mark").all_inner_texts())
    assert {one.lower() for one in marked} == set(words_of(expected)) - set(words_of(answer))
    assert page.inner_text("#before") == (
        "The same as before." if expected == answer else f"Before: {answer}"
    )
    assert f"was {kept[3]['rating']:g}" in page.locator("#events tr.changed th").inner_text()
    assert [one.split("\n")[0] for one in page.locator("#likes th").all_inner_texts()] == [
        one.split("\n")[0] for one in order
    ], "rows stay where they are"
    assert len(page.locator("#events th").all_inner_texts()) == len(titles)
    taste = {one["name"]: one for one in client.taste(history=changed)["categories"]}
    for row in page.locator("#likes tr").all():
        one = taste[row.locator("th").inner_text().split("\n")[0]]
        for side, found in zip(("liked", "disliked"), row.locator("td.num").all_inner_texts(), strict=False):
            assert int(re.match(r"\d+", found)[0]) == pytest.approx(100 * one[side]["value"], abs=0.51)
    assert page.locator("#likes .was").count() > 0, "the value before the change"
    assert client.history("ann")["events"] == kept
    page.click("#undo")
    page.locator("#undo").wait_for(state="hidden")
    done(page)
    assert page.inner_text("#answer") == answer


def words_of(text):
    return re.findall(r"\w+", text.lower())


@pytest.mark.parametrize("viewport", [NARROW, {"width": 1280, "height": 800}], ids=["narrow", "wide"])
def test_what_is_changed_stays_under_the_hand_with_the_answer_in_sight(visit, viewport):
    page = shown(visit(viewport=viewport), "ann")
    choice = page.locator("#events select").nth(5)
    choice.scroll_into_view_if_needed()
    choice.evaluate("(one) => window.scrollBy(0, one.getBoundingClientRect().top - innerHeight * .7)")
    name = choice.get_attribute("id")

    def top():
        return page.locator(f"#{name}").bounding_box()["y"]

    before = top()
    page.select_option(f"#{name}", "1" if choice.input_value() != "1" else "5")
    page.locator("#before:not(:empty)").wait_for()
    done(page)
    assert top() == pytest.approx(before, abs=2)
    for part in ("#answer", f"#{name}"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= viewport["height"]


def test_an_item_is_left_out_and_taken_in_again(visit, client, events):
    page = shown(visit(), "ann")
    kept = sorted(client.history("ann")["events"], key=lambda one: one["timestamp"])
    gone = kept.pop(2)
    page.get_by_role("button", name=f"Leave out {gone['title']}").click()
    page.locator("#before:not(:empty)").wait_for()
    done(page)
    sent = [{name: one[name] for name in ("item_id", "rating", "timestamp")} for one in kept]
    assert page.inner_text("#answer") == client.answer(history=sent)
    assert page.locator("#events tr").count() == len(events)
    assert page.locator("#events .meter").count() == len(kept)
    back = page.get_by_role("button", name=f"Take back {gone['title']}")
    assert back.evaluate("(one) => one === document.activeElement")
    back.click()
    page.locator("#events .meter").nth(len(kept)).wait_for()
    done(page)
    assert page.locator("#undo").is_hidden()


def test_items_are_added_by_their_words_known_ones_and_new_ones(visit, client, tiny_data):
    page, kept = shown(visit(), "ann"), client.history("ann")["events"]
    had = {one["item_id"] for one in kept}
    other = next(one for one in client.items("film 1", most=100) if one["item_id"] not in had)
    page.fill("#item", other["title"].lower())
    page.locator(f"#suggestions option[value='{other['title']}']").wait_for(state="attached")
    page.click("#add button")
    page.locator("#events .tag").wait_for()
    done(page)
    sent = [{name: one[name] for name in ("item_id", "rating", "timestamp")} for one in kept]
    added = {"item_id": other["item_id"], "rating": 5, "timestamp": sent[-1]["timestamp"] + 1}
    assert page.inner_text("#answer") == client.answer(history=[*sent, added])
    page.fill("#item", "A film that nobody knows")
    page.fill("#item-categories", "Drama, Sci-Fi")
    page.click("#add button")
    page.locator("#events .tag").nth(1).wait_for()
    done(page)
    new = {"title": "A film that nobody knows", "categories": ["Drama", "Sci-Fi"], "rating": 5}
    expected = client.answer(history=[*sent, added, {**new, "timestamp": added["timestamp"] + 1}])
    assert page.inner_text("#answer") == expected
    assert not client.items("nobody knows"), "nothing of it is kept"
    page.fill("#item", other["title"])
    page.click("#add button")
    assert trouble(page) == f"{other['title']} is in the history already; change its rating there"
    page.get_by_role("button", name=f"Remove {other['title']}").click()
    page.locator("#events .tag").nth(1).wait_for(state="detached")


def test_kinds_of_questions_are_buttons(visit, client):
    page = shown(visit(), "ann")
    kinds = client.model()["questions"]
    assert page.locator("#kinds button").count() == len(kinds)
    page.click("[data-kind=recommendation]")
    page.locator("#state", has_text="Computed from scores").wait_for()
    done(page)
    assert page.get_attribute("[data-kind=recommendation]", "aria-pressed") == "true"
    given = client.ask("What should I recommend to this user and why?", "ann")
    assert page.inner_text("#answer") == given["text"]
    page.click("[data-kind=rating]")
    page.click("#named button")
    assert "is given; type a word of its title, and choose one from the list" in trouble(page)
    title = client.items("film 2")[0]["title"]
    page.fill("#entity-0", title)
    page.locator(f"#entity-0-list option[value='{title}']").wait_for(state="attached")
    page.click("#named button")
    page.locator("#question", has_text=title).wait_for()
    done(page)
    assert page.inner_text("#answer").startswith(title) or title in page.inner_text("#answer")
    page.fill("#instruction", "What is the weather like?")
    page.click("#ask")
    assert "weather" not in page.inner_text("#answer")
    assert trouble(page)


def test_a_link_brings_someone_else_to_the_same_view(visit, client):
    page = shown(visit(), "ann")
    kept = client.history("ann")["events"]
    choice = rating_of(page, kept[1]["title"])
    page.select_option(f"#{choice}", "1" if kept[1]["rating"] != 1 else "5")
    page.get_by_role("button", name=f"Leave out {kept[4]['title']}").click()
    page.fill("#item", "Something new")
    page.click("#add button")
    page.locator("#events .tag").wait_for()
    done(page)
    page.click("[data-kind=recommendation]")
    page.locator("[data-kind=recommendation][aria-pressed=true]").wait_for()
    done(page)
    other = visit(where="#" + page.url.partition("#")[2])
    done(other)
    for part in ("#question", "#answer", "#likes", "#events", "#next", "#read"):
        assert other.inner_text(part) == page.inner_text(part), part
    assert other.locator("#events tr.changed").count() == 3
    assert other.url == page.url


def test_a_link_to_a_history_of_ones_own_holds_it(visit, events):
    page = visit()
    ask(page, history=json.dumps(events[:4]))
    page.locator("#read", has_text="4 events of the given history").wait_for()
    done(page)
    other = visit(where="#" + page.url.partition("#")[2])
    done(other)
    assert other.inner_text("#events") == page.inner_text("#events")
    assert other.inner_text("#answer") == page.inner_text("#answer")


def test_a_long_history_says_what_is_read_of_it(visit, client, tiny_data):
    items = [
        {"item_id": f"long-{n}", "title": f"Item {n % 5}", "categories": ["Drama"]} for n in range(1_034)
    ]
    for start in range(0, len(items), 100):
        client.add_items(items[start : start + 100])
    events = [{"item_id": one["item_id"], "rating": 1 + n % 5, "timestamp": n} for n, one in enumerate(items)]
    client.add_events("long", [*events[:1_000], {**events[0], "timestamp": 1_000}])  # one of them rated again
    page = shown(visit(), "long")
    assert page.inner_text("#read") == "1,000 events of user long."
    client.add_events("long", events[1_000:])
    ask(page, "long")
    page.locator("#read", has_text="older ones").wait_for()
    done(page)
    assert page.inner_text("#read") == "The newest 1,000 events of user long; older ones are not used."
    assert page.inner_text("#influence-note").startswith(
        "Influences are not shown: history: found 1,000 events"
    )
    assert page.locator("#events tr").count() == 20
    assert page.locator("#rating-999").count() == 1  # the newest come first
    page.click("#more")
    assert page.locator("#events tr").count() == 1_000
    assert page.evaluate("document.activeElement.id") == "rating-979"
    assert page.locator("#more").is_hidden()


def test_an_empty_store_opens_on_a_made_up_history_of_its_own_catalogue(chromium, run, tmp_path, tiny_data):
    with serving.listening(run, tmp_path / "users.sqlite") as url:
        page = chromium.new_page()
        page.set_default_timeout(240_000)
        page.goto(url)
        done(page)
        assert page.inner_text("#read") == "A made-up history: the store has no users yet."
        titles = [one.split("\n")[0] for one in page.locator("#events th").all_inner_texts()]
        own = {f"{title} ({year})" for title, year in tiny_data.items.select("title", "year").iter_rows()}
        assert 4 <= len(titles) == len(set(titles))
        assert set(titles) <= own
        assert page.locator("#recommended").is_hidden()
        page.close()


def test_a_recommender_alone_has_a_page_too(chromium, recommender_run, tmp_path):
    with serving.listening(recommender_run, tmp_path / "users.sqlite") as url:
        page = chromium.new_page()
        page.set_default_timeout(240_000)
        page.goto(url)
        done(page)
        assert page.locator("#next li").count() == 6
        assert page.inner_text("#state") == "Computed from scores."
        assert "Mean rating" in page.inner_text("#taste-head")
        page.close()


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
    "#kinds button",
    "#answer",
    "#read",
    "#taste-note",
    "#likes th",
    "#likes td.num",
    "#course .tick",
    "#next .why",
    "#events th",
    "#events .meter",
    "#events select",
    "thead th",
    "#wrong",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [NARROW, {"width": 1100, "height": 800}], ids=["narrow", "wide"])
def test_everything_can_be_read(visit, scheme, viewport):
    page = shown(visit(color_scheme=scheme, viewport=viewport), "ann")
    for text in TEXTS:
        ink, paper = page.evaluate(LUMINANCE, text)
        assert (ink > paper) == ((scheme == "dark") != (text == "#send")), text
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, text
    assert fits(page, "html")
    for table in ("#likes", "#events"):
        assert fits(page, f".scroll:has(> table > {table})")
        cells = page.locator(f"{table} :is(th, td)")
        boxes = [cells.nth(number).bounding_box() for number in range(3)]
        assert all(one["width"] >= 40 and one["x"] + one["width"] <= viewport["width"] for one in boxes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [NARROW, {"width": 1100, "height": 800}], ids=["narrow", "wide"])
def test_axe_finds_nothing_that_keeps_anyone_out(visit, scheme, viewport):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = shown(visit(color_scheme=scheme, viewport=viewport), "ann")
    page.locator("#events select").first.select_option("1")
    page.get_by_role("button", name="Leave out").nth(2).click()
    page.click("#own summary")
    page.click("[data-kind=item-pair]")
    page.click("#course summary")
    done(page)
    found = axe.Axe().run(page).response
    assert found["passes"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
