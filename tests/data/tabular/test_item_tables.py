"""Item files: categories and texts of every type, and duplicate ids."""

import json
from datetime import date

import polars as pl
import pytest

from palate.data.tabular.faults import Faults
from palate.data.tabular.files import find_row_files
from palate.data.tabular.items import find_item_columns, read_catalogue
from palate.data.tabular.settings import OwnData
from palate.errors import DataError

IDS = ["a", "b", "c", "d"]
FOLK_AND_TECHNO = [("Folk", "Techno"), ("Folk",), (), ("Techno",)]
LISTS = [["Techno", "Folk"], ["Folk"], [], ["Techno"]]
RECORDS = [[{"id": 1, "name": one} for one in names] for names in LISTS]


def catalogue_of(path, said=None, **own):
    settings = OwnData(**{"items": str(path), **own})
    files, faults = find_row_files([path]), Faults()
    columns = find_item_columns(files, settings, "item_id", faults)
    faults.check()
    return read_catalogue(files, columns, settings, "item_id", (said if said is not None else []).append)


def parquet(tmp_path, **columns):
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": IDS[: len(next(iter(columns.values())))], **columns}).write_parquet(path)
    return path


def categories(catalogue):
    return [item.categories for item in catalogue.items]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(LISTS),
        pl.Series(LISTS, dtype=pl.List(pl.Categorical)),
        pl.Series(RECORDS, dtype=pl.List(pl.Struct({"id": pl.Int64, "name": pl.String}))),
        pl.Series(
            [["Folk", "Techno"], ["Folk", None], [None, None], ["Techno", "Techno"]],
            dtype=pl.Array(pl.String, 2),
        ),
        pl.Series([[[one] for one in names] for names in LISTS], dtype=pl.List(pl.List(pl.String))),
        pl.Series([{"names": names, "name": names} for names in LISTS]),
        pl.Series([{"Folk": "Folk" in names, "Techno": "Techno" in names} for names in LISTS]),
        pl.Series(["Folk|Techno", "Folk", None, "Techno"], dtype=pl.Categorical),
        pl.Series(
            ["Folk|Techno", "Folk", "", "Techno"], dtype=pl.Enum(["Folk|Techno", "Folk", "", "Techno"])
        ),
        pl.Series([b"Folk|Techno", b"Folk", None, b"Techno"], dtype=pl.Binary),
    ],
    ids=lambda column: str(column.dtype),
)
def test_categories_are_read_from_every_type_of_parquet(tmp_path, column):
    assert categories(catalogue_of(parquet(tmp_path, genres=column), separator="|")) == FOLK_AND_TECHNO


def test_a_map_is_the_names_that_it_maps(tmp_path):
    entry = pl.Struct({"key": pl.String, "value": pl.Float64})
    column = pl.Series(
        [[{"key": one, "value": 0.5} for one in names] for names in LISTS], dtype=pl.List(entry)
    )
    assert categories(catalogue_of(parquet(tmp_path, genres=column))) == FOLK_AND_TECHNO


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series([[5, 12], [5], [], [12]]), [("12", "5"), ("5",), (), ("12",)]),
        (pl.Series([[5, 12], [5, None], [None, None], [12, 12]], dtype=pl.Array(pl.Int64, 2)),
         [("12", "5"), ("5",), (), ("12",)]),
        (pl.Series([5, 12, None, 12]), [("5",), ("12",), (), ("12",)]),
        (pl.Series([5.0, 12.0, None, 12.5]), [("5",), ("12",), (), ("12.5",)]),
        (pl.Series([[None], [], None, [None]], dtype=pl.List(pl.Null)), [(), (), (), ()]),
        (pl.Series([date(2020, 1, 1)] * 4), [("2020-01-01",)] * 4),
    ],
)  # fmt: skip
def test_categories_may_be_numbers_or_nothing(tmp_path, column, expected):
    assert categories(catalogue_of(parquet(tmp_path, genres=column))) == expected


@pytest.mark.parametrize(
    "written",
    [
        lambda names: str(names).replace(",", ""),
        lambda names: str([{"id": 1, "name": one} for one in names]),
        lambda names: json.dumps([{"id": 1, "name": one} for one in names]),
        lambda names: "{" + ",".join(names) + "}",
    ],
    ids=["numpy", "records of Python", "records of JSON", "PostgreSQL"],
)
def test_categories_are_read_from_every_form_in_csv(tmp_path, written):
    path = tmp_path / "items.csv"
    pl.DataFrame({"item_id": IDS, "genres": list(map(written, LISTS))}).write_csv(path)
    assert categories(catalogue_of(path)) == FOLK_AND_TECHNO


@pytest.mark.parametrize("genres", [LISTS, RECORDS], ids=["lists", "records"])
def test_categories_are_read_from_lists_of_json_lines(tmp_path, genres):
    path = tmp_path / "items.jsonl"
    path.write_text(
        "".join(json.dumps({"item_id": i, "genres": g}) + "\n" for i, g in zip(IDS, genres, strict=True))
    )
    assert categories(catalogue_of(path)) == FOLK_AND_TECHNO


def test_a_cell_that_cannot_be_read_is_named_with_its_line(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,genres\na,\"['Folk', 'Techno']\"\nb,\"['Folk', 'Tech\"\n")
    with pytest.raises(
        DataError, match=r"items\.csv:3: the categories in column 'genres' cannot be parsed: "
    ):
        catalogue_of(path)


def test_the_field_of_records_without_a_name_is_given_with_the_column(tmp_path):
    records = [[{"id": 1, "code": one} for one in names] for names in LISTS]
    path = parquet(
        tmp_path, genres=pl.Series(records, dtype=pl.List(pl.Struct({"id": pl.Int64, "code": pl.String})))
    )
    with pytest.raises(DataError, match=r"its fields are 'id', 'code'.*--category-col genres\.title"):
        catalogue_of(path)
    assert categories(catalogue_of(path, category="genres.code")) == FOLK_AND_TECHNO


def test_titles_descriptions_and_years_may_be_of_any_type(tmp_path):
    path = parquet(
        tmp_path,
        title=[{"name": "One"}, {"name": "Two"}, {"name": None}, {"name": "Four"}],
        description=pl.Series([["A text.", "More."], [], None, ["Text."]]),
        year=[[1994], [], None, [2003]],
        genres=LISTS,
    )
    items = catalogue_of(path).items
    assert [item.title for item in items] == ["One", "Two", "c", "Four"]
    assert [item.description for item in items] == ["A text., More.", None, None, "Text."]
    assert [item.year for item in items] == [1994, None, None, 2003]


@pytest.mark.parametrize(
    "year", [[1994.0, 2003.0], [date(1994, 5, 1), date(2003, 1, 1)], ["1994-05", "in 2003"], [1994, 2003]]
)
def test_years_are_found_in_numbers_dates_and_texts(tmp_path, year):
    assert [item.year for item in catalogue_of(parquet(tmp_path, year=year, genres=LISTS[:2])).items] == [
        1994,
        2003,
    ]


def test_ids_that_are_lists_are_refused(tmp_path):
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": [["a"], ["b"]], "genres": ["Folk", "Jazz"]}).write_parquet(path)
    with pytest.raises(DataError, match=r"column 'item_id' holds List\(String\), expected ids"):
        catalogue_of(path)


def test_rows_whose_id_stands_earlier_are_counted_and_told_apart(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text(
        "item_id,title,genres\na,One,Folk\nb,Two,Jazz\na,One,Folk\na,Other,Folk\nb,Two,Jazz\na,Other,Folk\n"
    )
    said = []
    found = catalogue_of(path, said)
    assert [(item.item_id, item.title) for item in found.items] == [("a", "One"), ("b", "Two")]
    assert found.report["duplicate_items"] == 4
    assert found.report["conflicting_items"] == 2
    assert (
        f"skipped 4 rows of items that occur earlier, 2 of them with other content (the first at {path}:5)"
        in said
    )


def test_of_events_that_tell_of_their_items_only_contradictions_count(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(
        "user_id,item_id,title,genres\nu,a,One,Folk\nv,a,One,Folk\nw,b,Two,Jazz\nw,a,Other,Folk\n"
    )
    said = []
    found = catalogue_of(path, said, items=None)
    assert [item.title for item in found.items] == ["One", "Two"]
    assert (found.report["duplicate_items"], found.report["conflicting_items"]) == (1, 1)


def test_items_without_duplicates_say_nothing_of_them(tmp_path):
    said = []
    found = catalogue_of(parquet(tmp_path, genres=LISTS), said)
    assert (found.report["duplicate_items"], found.report["conflicting_items"]) == (0, 0)
    assert not any("stand earlier" in line for line in said)
