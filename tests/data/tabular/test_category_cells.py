"""Category cells: every notation gives the same names, or is refused with a reason."""

import csv
import io
import json
import math
from datetime import date

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palate.data.movielens.item_files import NOT_CATEGORIES
from palate.data.tabular.category_cells import _NAME_FIELDS, _NOT_NAMES, CellError, as_text, read_column

NAMES = ["Folk", "Hard Rock", "Rock, Hard"]


def names(cell, **options):
    return read_column([cell], **options).names[0]


@pytest.mark.parametrize(
    "cell",
    [
        NAMES,
        tuple(NAMES),
        np.array(NAMES, dtype=object),
        [*NAMES, None, ""],
        [[NAMES[0]], NAMES[1:]],
        [{"id": 12, "name": name} for name in NAMES],
        [{"genre": {"id": 12, "name": name}} for name in NAMES],
        [{"alias": name.lower(), "title": name} for name in NAMES],
        [{"id": "1", "description": name} for name in NAMES],
        [{"element": name} for name in NAMES],
        [{"key": name, "value": 0.5} for name in NAMES],
        {"name": NAMES},
        {"Folk": 12, "Hard Rock": 1, "Rock, Hard": 3, "Jazz": 0, "Opera": None},
        {"Folk": True, "Hard Rock": "True", "Rock, Hard": True, "Jazz": False, "Opera": "False"},
        {"/m/01": "Folk", "/m/02": "Hard Rock", "/m/03": "Rock, Hard"},
        '["Folk", "Hard Rock", "Rock, Hard"]',
        '["Folk", "Hard Rock", "Rock, Hard", null]',
        json.dumps('["Folk", "Hard Rock", "Rock, Hard"]'),
        json.dumps(json.dumps('["Folk", "Hard Rock", "Rock, Hard"]')),
        '"[""Folk"", ""Hard Rock"", ""Rock, Hard""]"',
        "['Folk', 'Hard Rock', 'Rock, Hard']",
        "['Folk', 'Hard Rock', 'Rock, Hard', nan, None]",
        "['Folk' 'Hard Rock' 'Rock, Hard']",
        "['Folk'\n 'Hard Rock'\n 'Rock, Hard']",
        "array(['Folk', 'Hard Rock',\n       'Rock, Hard'], dtype=object)",
        "array(['Folk', 'Hard Rock', 'Rock, Hard'], dtype='<U10')",
        "[np.str_('Folk'), np.str_('Hard Rock'), np.str_('Rock, Hard')]",
        "[list(['Folk', 'Hard Rock']) 'Rock, Hard']",
        "('Folk', 'Hard Rock', 'Rock, Hard')",
        "{'Folk', 'Hard Rock', 'Rock, Hard'}",
        "frozenset({'Folk', 'Hard Rock', 'Rock, Hard'})",
        "set(['Folk', 'Hard Rock', 'Rock, Hard'])",
        '{Folk,"Hard Rock",NULL,"Rock, Hard"}',
        "[['Folk'], ['Hard Rock', 'Rock, Hard']]",
        "[{'id': 12, 'name': 'Folk'}, {'id': 1, 'name': 'Hard Rock'}, {'id': 2, 'name': 'Rock, Hard'}]",
        '[{"id": 12, "name": "Folk"}, {"id": 1, "name": "Hard Rock"}, {"id": 2, "name": "Rock, Hard"}]',
        "[{'id': 12, 'name': 'Folk'}\n {'id': 1, 'name': 'Hard Rock'}\n {'id': 2, 'name': 'Rock, Hard'}]",
        "[OrderedDict([('id', 12), ('name', 'Folk')]), {'name': 'Hard Rock'}, {'name': 'Rock, Hard'}]",
        ['{"id": 12, "name": "Folk"}', '{"name": "Hard Rock"}', '{"name": "Rock, Hard"}'],
        "{'Folk': 3, 'Hard Rock': 2, 'Rock, Hard': 1, 'Jazz': 0}",
        'c("Folk", "Hard Rock", "Rock, Hard")',
        "Counter({'Folk': 3, 'Hard Rock': 2, 'Rock, Hard': 1})",
    ],
    ids=repr,
)
def test_one_list_in_every_form(cell):
    assert names(cell) == NAMES


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (None, []),
        (math.nan, []),
        ("", []),
        ("  ", []),
        ("\\N", []),
        ("nan", []),
        ("None", []),
        ("[]", []),
        ("{}", []),
        ("set()", []),
        ("[None]", []),
        ([None], []),
        ({}, []),
        ([{"id": None, "name": None}], []),
        ("(no genres listed)", []),
        (7, ["7"]),
        (7.0, ["7"]),
        (7.5, ["7.5"]),
        (True, ["true"]),
        (b"Folk", ["Folk"]),
        (date(2020, 5, 1), ["2020-05-01"]),
        ([5, 12], ["12", "5"]),
        ("[5, 12]", ["12", "5"]),
        ("[ 5 12]", ["12", "5"]),
        ("[5. 12.]", ["12", "5"]),
        ("(5, 12)", ["12", "5"]),
        ("[None 'Folk']", ["Folk"]),
        ("{5,12}", ["12", "5"]),
        ("[Folk, Hard Rock]", ["Folk", "Hard Rock"]),
        ("WrappedArray(Folk, Hard Rock)", ["Folk", "Hard Rock"]),
        ("[{'id': 12, 'name': Folk}]", ["Folk"]),
        ("[{id=12, name=Hard Rock}]", ["Hard Rock"]),
        ("[\"Rock 'n' Roll\" 'Folk']", ["Folk", "Rock 'n' Roll"]),
        ("['Rock \\'n\\' \"Roll\"']", ["Rock 'n' \"Roll\""]),
        ("[O'Hara, Folk]", ["Folk", "O'Hara"]),
        ("[Web 2.0, Folk]", ["Folk", "Web 2.0"]),
        ('["Caf\\u00e9", "\\ud83d\\ude00"]', ["Café", "😀"]),
        ("['日本語', 'Ópera']", ["Ópera", "日本語"]),
        ('["AC\\\\DC"]', ["AC\\DC"]),
        ("(500) Days", ["(500) Days"]),
        ("(Live)", ["(Live)"]),
        ("character(0)", []),
        ("[Live] and loud", ["[Live] and loud"]),
        ("[Folk] and [Techno]", ["[Folk] and [Techno]"]),
        ('"Folk"', ["Folk"]),
        ('"Weird Al" Comedy', ['"Weird Al" Comedy']),
    ],
)
def test_cells_of_one_kind_or_none(cell, expected):
    assert names(cell) == expected


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("Folk|Hard Rock", "|", ["Folk", "Hard Rock"]),
        ('"Rock, Hard", Folk', ",", ["Folk", "Rock, Hard"]),
        ('"Rock, ""Hard""",Folk', ",", ["Folk", 'Rock, "Hard"']),
        ("'Rock, Hard', 'Folk'", ",", ["Folk", "Rock, Hard"]),
        ('Folk > "Rock > Hard" > Jazz', " > ", ["Folk", "Jazz", "Rock > Hard"]),
        ('7" Singles|Folk', "|", ['7" Singles', "Folk"]),
        ("Folk,,Jazz,", ",", ["Folk", "Jazz"]),
        ("['Rock|Hard', 'Folk']", "|", ["Folk", "Rock|Hard"]),
    ],
)
def test_a_separator_in_quotes_separates_nothing(text, separator, expected):
    assert names(text, separator=separator) == expected


def test_a_column_may_hold_several_forms():
    cells = ["Folk", '["Folk", "Jazz"]', ["Jazz"], None, "{Folk,Jazz}", [{"name": "Jazz"}]]
    found = read_column(cells)
    assert found.names == [["Folk"], ["Folk", "Jazz"], ["Jazz"], [], ["Folk", "Jazz"], ["Jazz"]]
    assert found.separator is None


def test_the_separator_is_guessed_from_plain_texts_alone():
    cells = ["Folk;Jazz", "Jazz;Folk", "Folk", "Jazz", '["Rock, Hard", "a|b"]']
    found = read_column(cells)
    assert found.separator == ";"
    assert found.names[4] == ["Rock, Hard", "a|b"]


def test_a_name_with_a_comma_is_no_list():
    cells = ["Food & Drink, Household", "Toys", "Games", "Toys"]
    assert read_column(cells).names == [["Food & Drink, Household"], ["Toys"], ["Games"], ["Toys"]]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("['Folk', 'Tech", "quote that is never closed"),
        ("['Folk', 'Techno'", "is truncated"),
        ("['Folk' 'Jazz' ... 'Techno']", "was abbreviated with '...'"),
        ('["Folk", "Jazz", … "Techno"]', "was abbreviated"),
        ("['Rock 'n' Roll', 'Folk']", "unbalanced quotes"),
        ("['Folk', 'Jazz'] ['Opera']", "is followed by"),
        ("{'id': 12, 'Folk'}", "has no key"),
        ("[{'id': 12}, {'id': 13}]", "without a name: its fields are 'id'"),
        ([{"id": 12, "code": "FLK"}], "without a name: its fields are 'id', 'code'"),
        ({"genre_id": 12}, "without a name"),
        ({"x": {"y": 1}}, "without a name"),
        ([b"\xff"], "not UTF-8"),
        ("[" * 5000 + "]" * 5000, "deeper than"),
        ("[Folk {Jazz], Opera]", "unbalanced brackets"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_cell_and_the_reason(cell, reason):
    with pytest.raises(CellError, match=reason) as refused:
        read_column(["Folk", cell])
    assert refused.value.row == 1


def test_the_field_that_holds_the_name_may_be_given():
    cell = [{"id": 12, "name": "Folk", "code": {"short": "FLK"}}, {"id": 13, "name": "Jazz"}]
    assert names(cell, field="id") == ["12", "13"]
    assert names(cell, field="code.short") == ["FLK"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("[REC]", "[REC]"),
        ("(500) Days", "(500) Days"),
        (["One.", "Two."], "One., Two."),
        ("['One.', 'Two.']", "One., Two."),
        ("[]", None),
        ([], None),
        ({"name": "Folk"}, "Folk"),
        ({"id": 3}, "{'id': 3}"),
        ("['cut off", "['cut off"),
        (1995, "1995"),
    ],
)
def test_titles_and_descriptions_are_what_is_in_them(value, text):
    assert as_text(value) == text


def _postgres(one):
    escaped = one.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _separated(separator):
    def written(items):
        out = io.StringIO()
        csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="").writerow(items)
        return out.getvalue()

    return written


FORMS = {
    "list": list,
    "records": lambda items: [{"id": n, "name": one} for n, one in enumerate(items)],
    "json": json.dumps,
    "json text": lambda items: json.dumps(items, ensure_ascii=False),
    "json in json": lambda items: json.dumps(json.dumps(items)),
    "json records": lambda items: json.dumps([{"id": n, "name": one} for n, one in enumerate(items)]),
    "python": repr,
    "python records": lambda items: repr([{"id": n, "name": one} for n, one in enumerate(items)]),
    "tuple": lambda items: repr(tuple(items)),
    "set": lambda items: repr(set(items)),
    "nested": lambda items: repr([[one] for one in items]),
    "numpy": lambda items: str(np.array(items, dtype=object)),
    "numpy of text": lambda items: np.array2string(np.array(items, dtype=object), threshold=10**6),
    "numpy's repr": lambda items: repr(np.array(items, dtype=object)),
    "map": lambda items: json.dumps(dict.fromkeys(items, 1)),
    "postgres": lambda items: "{" + ",".join(map(_postgres, items)) + "}",
    "quoted, with |": _separated("|"),
    "quoted, with ,": _separated(","),
}
"""Ways to write a list of names, by other libraries than the one that reads them."""

_ODD = ["Rock", "'n'", '"', "a, b", "x|y", "é", "日本", "😀", "O'", "\\", "[x]", "{y}", "(z)", "1.0"]
_word = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8) | st.sampled_from(_ODD)
_name = st.lists(_word, min_size=1, max_size=4).map(lambda words: " ".join(words).strip(", "))
_name = _name.filter(lambda one: one not in NOT_CATEGORIES and not one.startswith(('{"', "{'", '["', "['")))
_name = _name.filter(lambda one: one.lower() not in _NAME_FIELDS and not _NOT_NAMES.fullmatch(one.lower()))


@settings(max_examples=60)
@given(st.lists(_name, min_size=2, max_size=6, unique=True))
@example(["Rock 'n' Roll", 'The "Best"'])
@example(["0", "Kid"])
@example(["Film-Noir", "Children's", "Sci-Fi & Fantasy"])
def test_every_form_gives_back_the_names_that_were_written(items):
    expected = sorted(items)
    for form, written in FORMS.items():
        separator = form[-1] if form.startswith("quoted") else None
        cell = written(items)
        assert names(cell, separator=separator) == expected, (form, cell)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
    | st.text("[]{}()'\"\\,: =aN0.\n|")
)
def test_every_cell_is_read_or_refused(cell):
    try:
        found = names(cell)
    except CellError as error:
        assert str(error)  # noqa: PT017
    else:
        assert all(isinstance(one, str) and one for one in found)
        assert found == sorted(set(found))
    assert as_text(cell) is None or isinstance(as_text(cell), str)
