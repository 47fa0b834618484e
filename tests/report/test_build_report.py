import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from pydantic import ValidationError
from report_sample import sample

from palate.errors import DataError, OutputError
from palate.report.build import amount, build_report, duration, read_report, render_report
from palate.report.data import Fact, LengthLine, ReportData, TrainingCurve

VOID = {"meta", "link"}


class Page(HTMLParser):
    """Tags, attributes and visible text; fails on a tag that closes another."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(page)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page():
    return render_report(sample())


def words(page):
    return " ".join(" ".join(Page(page).text).split())


def test_page_asks_no_other_host(page):
    assert not re.search(r"https?:|//\w|@import|url\(", page)
    for _, attributes in Page(page).tags:
        assert attributes.get("href", "data:,") == "data:,"
        assert "src" not in attributes
    assert "default-src 'none'" in page
    assert not Page(page).named("script")


def test_page_holds_every_row(page):
    text, data = words(page), sample()
    for row in data.scores:
        assert row.predictor in text
        assert f"{row.f1.value:.3f}" in text
        assert row.note in text
    for example in data.examples:
        assert f"User {example.user_id}" in text
        assert example.truth_text in text
        assert all(answer.text in text for answer in example.answers)
        assert all(item.title in text for item in (*example.highest, *example.lowest))
    for pairs in ((fact.label, fact.value) for fact in data.facts):
        assert all(value in text for value in pairs)
    assert all(row.category in text for row in data.categories.rows)
    assert all(paragraph in text for paragraph in (*data.notes, *data.commands, data.lead))


def test_each_picture_names_its_lines_once_a_cut(page):
    pictures = [svg for svg in Page(page).named("svg") if svg.get("role") == "img"]
    assert [svg["class"] for svg in pictures] == ["picture wide", "picture narrow"] * 3
    for line in sample().lengths:
        assert sum(line.name in svg["aria-label"] for svg in pictures) >= 2


def test_page_is_usable_without_sight(page):
    parsed = Page(page)
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(parsed.named("caption")) == len(parsed.named("table")) == 3
    assert all("scope" in cell for cell in parsed.named("th"))
    assert all("aria-hidden" in svg or svg["aria-label"] for svg in parsed.named("svg"))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["aria-labelledby"] for _, a in parsed.tags if "aria-labelledby" in a} <= set(ids)


def test_hostile_texts_stay_texts():
    hostile = "</style><script>alert('\"x\"')</script>{{ 7 * 7 }}&amp;"
    data = sample()
    first = data.examples[0]
    item = first.highest[0].model_copy(update={"title": hostile})
    answer = first.answers[0].model_copy(update={"text": hostile, "predictor": hostile})
    example = first.model_copy(update={"user_id": hostile, "highest": (item,), "answers": (answer,)})
    line = data.lengths[0].model_copy(update={"name": hostile})
    row = data.scores[0].model_copy(update={"predictor": hostile})
    changes = {
        "title": hostile,
        "examples": (example,),
        "lengths": (line,),
        "scores": (row,),
        "notes": (hostile,),
    }
    page = render_report(data.model_copy(update=changes | {"commands": (hostile,)}))
    assert not Page(page).named("script")
    assert "<script" not in page
    assert words(page).count(hostile) >= 6


def test_only_the_best_model_is_highlighted_even_below_a_reference(page):
    assert len(re.findall(r'<tr class="best">', page)) == 1
    assert re.search(r'<tr class="best">\s*<th scope="row">Streaming prompt', page)


def test_predictors_are_grouped_by_kind(page):
    places = [page.index(f"{name}</th>") for name in ("Models", "References", "Controls")]
    assert places == sorted(places)
    assert places[0] < page.index('<th scope="row">UEM') < places[1]
    assert places[1] < page.index('<th scope="row">Rule on the window') < places[2]
    assert page.index('<th scope="row">Another user') > places[2]


def test_hits_and_misses_are_told_against_the_truth():
    data = sample()
    only = data.examples[0].model_copy(update={"answers": data.examples[0].answers[1:2]})
    page = render_report(data.model_copy(update={"examples": (only,)}))
    hits, misses = (re.findall(rf'chip {kind}">.*?</span> ([^<]+)</span>', page) for kind in ("hit", "miss"))
    assert hits == ["Film-Noir", "War", "Children&#39;s"]
    assert misses == ["Drama", "Horror"]
    assert "missed Mystery" in page
    assert "missed Musical" in page


def test_a_report_of_almost_nothing_has_no_empty_sections():
    page = render_report(ReportData(title="Nothing yet", lead="No run."))
    parsed = Page(page)
    assert not parsed.named("h2")
    assert not parsed.named("svg")
    assert "Nothing yet" in words(page)


def test_same_data_same_bytes_and_json_rebuilds_the_page(tmp_path):
    first = build_report(sample(), tmp_path / "a" / "report.html")
    again = build_report(read_report(first.with_suffix(".json")), tmp_path / "b" / "report.html")
    assert first.read_bytes() == again.read_bytes()
    assert read_report(again.with_suffix(".json")) == sample()
    assert sorted(file.name for file in first.parent.iterdir()) == ["report.html", "report.json"]


def test_the_page_must_end_in_html(tmp_path):
    with pytest.raises(OutputError, match=r"report\.json: expected a file name ending in \.html"):
        build_report(sample(), tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "Invalid JSON"), ('{"title": "x"}', "lead: is missing"), (None, "cannot be read")],
)
def test_a_damaged_json_names_file_and_field(tmp_path, text, message):
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=rf"report\.json: .*{message}"):
        read_report(path)


def test_data_that_does_not_fit_together_is_refused():
    with pytest.raises(ValidationError, match="UEM: 1 scores, 0 lows and 0 highs for 2 lengths"):
        LengthLine(name="UEM", kind="model", lengths=(5, 10), f1=(0.2,))
    with pytest.raises(ValidationError, match="UEM: 1 values of loss for 2 steps"):
        TrainingCurve(name="UEM", x=(1, 2), loss=(0.3,))
    with pytest.raises(ValidationError, match="finite number"):
        TrainingCurve(name="UEM", x=(1,), loss=(float("nan"),))
    with pytest.raises(ValidationError, match="Extra inputs"):
        Fact(label="Seed", value="0", unit="")


def test_numbers_read_as_one_would_say_them():
    assert [duration(value) for value in (0.4, 89, 90, 3570, 11100)] == [
        "0 s",
        "89 s",
        "2 min",
        "1 h 00 min",
        "3 h 05 min",
    ]
    assert [amount(value) for value in (24, 3.25, 1643.4, 16240)] == ["24", "3.2", "1,643", "16,240"]


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_colours_keep_the_contrast_of_wcag_aa(page, theme):
    block = re.findall(r":root \{(.*?)\}", page, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", block))
    grounds = ("page", "card", "tint")
    texts = [name for name in colours if name not in (*grounds, "edge", "grid", "hit-tint")]
    assert len(texts) == 11
    for name in texts:
        for ground in grounds:
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["hit"], colours["hit-tint"]) >= 4.5
