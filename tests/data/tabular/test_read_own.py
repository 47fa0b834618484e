"""palate prepare with event files: every format, any rating scale or none, and errors that name the line."""

import gzip
import json
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookshop import START, SUBJECTS, books, purchases, ratings, write_rows
from palate.config.recipe import TaskSettings
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.data.tabular.settings import OwnData, own_settings
from palate.data.tabular.values import default_thresholds, rating_scale, weight_scale
from palate.errors import DataError, RecipeError
from palate.tasks import load_task
from palate.tasks.statistics import category_statistics

BOOKS = books()
OWN = OwnData(user="reader", title="{name} by {author}")
BOUGHT = OwnData()


@pytest.fixture
def shop(tmp_path):
    """Writes rows and gives their path."""
    return lambda rows, name: write_rows(rows, tmp_path / name)


def made(tmp_path, events, items, own=OWN, out="out", **options):
    own = own.model_copy(update={"items": str(items)})
    return prepare(events, tmp_path / out, own=own, **options)


@pytest.mark.parametrize(
    "name", ["ratings.csv", "ratings.csv.gz", "ratings.tsv", "ratings.jsonl.gz", "ratings.parquet"]
)
@pytest.mark.parametrize("items", ["books.csv", "books.jsonl", "books.parquet"])
def test_every_format_gives_the_same_dataset(tmp_path, shop, name, items):
    rows = ratings(BOOKS)
    dataset = made(tmp_path, shop(rows, name), shop(BOOKS, items))
    plain = made(tmp_path, shop(rows, "plain.csv"), shop(BOOKS, "plain-books.csv"), out="plain")
    assert dataset.info.fingerprint == plain.info.fingerprint
    assert dataset.info.categories == SUBJECTS
    assert (dataset.info.item_noun, dataset.info.category_field) == ("book", "subject")
    assert load_dataset(tmp_path / "out").info == dataset.info
    [history] = dataset.histories(["reader-7"])
    own = sorted((row for row in rows if row["reader"] == "reader-7"), key=lambda row: row["rated_at"])
    assert history.item_ids == [row["isbn"] for row in own]
    assert history.ratings == [row["stars"] for row in own]
    assert dataset.items["title"][3] == f"{BOOKS[3]['name']} by {BOOKS[3]['author']}"
    assert dataset.items["description"].is_null().to_list() == [book["blurb"] is None for book in BOOKS]
    assert dataset.items["year"].to_list() == [book["publication_year"] for book in BOOKS]


def test_files_by_glob_are_one_table(tmp_path, shop):
    rows = ratings(BOOKS)
    items = shop(BOOKS, "books.csv")
    shop(rows[:700], "day/a.csv")
    shop(rows[700:], "day/b.csv")
    whole = made(tmp_path, shop(rows, "ratings.csv"), items)
    parts = made(tmp_path, str(tmp_path / "day" / "*.csv"), items, out="parts")
    assert parts.info.fingerprint == whole.info.fingerprint


def test_events_that_tell_of_their_items_need_no_other_file(tmp_path, shop):
    of_book = {book["isbn"]: book for book in BOOKS}
    rows = [{**row, **of_book[row["isbn"]]} for row in ratings(BOOKS)]
    dataset = prepare(shop(rows, "flat.csv"), tmp_path / "out", own=OWN)
    assert set(dataset.item_ids) == {row["isbn"] for row in rows}
    assert dataset.info.categories == SUBJECTS


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_the_unit_of_a_time_is_told_by_its_size(tmp_path, shop, per_second):
    rows = [{**row, "rated_at": (1_600_000_000 + n) * per_second} for n, row in enumerate(ratings(BOOKS))]
    lines = []
    dataset = made(tmp_path, shop(rows, "ratings.csv"), shop(BOOKS, "books.csv"), report=lines.append)
    assert dataset.interactions.timestamp.min() == 1_600_000_000
    unit = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds", 10**9: "nanoseconds"}[per_second]
    assert f"times are {unit} since 1970" in lines


@pytest.mark.parametrize(
    "text", ["2020-05-01", "2020-05-01T12:30:00Z", "2020-05-01 12:30:00.25", "2020-05-01T14:30:00+02:00"]
)
def test_iso_times_are_read(tmp_path, shop, text):
    rows = [{**row, "rated_at": text} for row in ratings(BOOKS)]
    dataset = made(tmp_path, shop(rows, "ratings.csv"), shop(BOOKS, "books.csv"))
    expected = 1_588_291_200 if len(text) == 10 else 1_588_336_200
    assert set(dataset.interactions.timestamp.tolist()) == {expected}


def test_without_times_the_order_of_the_file_counts_and_it_is_said(tmp_path, shop):
    rows = [{key: value for key, value in row.items() if key != "rated_at"} for row in ratings(BOOKS)]
    lines = []
    dataset = made(tmp_path, shop(rows, "ratings.csv"), shop(BOOKS, "books.csv"), report=lines.append)
    own = [row["isbn"] for row in rows if row["reader"] == "reader-3"]
    assert dataset.histories(["reader-3"])[0].item_ids == own
    assert any("no time column" in line for line in lines)
    assert not dataset.info.has_times
    assert not load_dataset(tmp_path / "out").info.has_times


def test_a_dataset_says_that_it_has_times_and_so_does_one_from_before_it_was_said(tmp_path, shop):
    dataset = made(tmp_path, shop(ratings(BOOKS), "ratings.csv"), shop(BOOKS, "books.csv"))
    assert dataset.info.has_times
    info = tmp_path / "out" / "dataset.json"
    info.write_text(json.dumps({k: v for k, v in json.loads(info.read_text()).items() if k != "has_times"}))
    assert load_dataset(tmp_path / "out").info == dataset.info


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("reader-1,978-00001,five,2020-01-01T00:00:00Z", "the rating 'five' is not a number"),
        (",978-00001,5,2020-01-01T00:00:00Z", "no user in column 'reader'"),
        ("reader-1,978-00001,,2020-01-01T00:00:00Z", "no rating in column 'stars'"),
        ("reader-1,978-00001,5,yesterday", "the time 'yesterday' differs in format from most"),
        ("reader-1,978-00001,5,2020-01-01T00:00:00Z,more", "found 5 fields, expected 4 as in the header"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path, shop, line, message):
    rows = ratings(BOOKS)
    path = shop(rows, "ratings.csv")
    path.write_text(path.read_text() + "\n" + line + "\n")
    with pytest.raises(DataError, match=rf"ratings.csv:{len(rows) + 3}: {re.escape(message)}"):
        made(tmp_path, path, shop(BOOKS, "books.csv"))
    assert not (tmp_path / "out").exists()


def test_bad_rows_may_be_left_out_and_are_counted(tmp_path, shop):
    rows = ratings(BOOKS)
    path = shop(rows, "ratings.jsonl")
    bad = {**rows[0], "stars": "?"}
    path.write_text(path.read_text() + json.dumps(bad) + "\n" + json.dumps({**bad, "reader": None}) + "\n")
    items = shop(BOOKS, "books.csv")
    with pytest.raises(DataError, match=rf"ratings.jsonl:{len(rows) + 1}: the rating '\?' is not a number"):
        made(tmp_path, path, items)
    lines = []
    own = OWN.model_copy(update={"skip_bad_rows": True})
    dataset = made(tmp_path, path, items, own, report=lines.append)
    assert dataset.info.report["bad_rows"] == 2
    assert len(dataset.interactions) == len(rows)
    assert any(line.startswith("skipped 2 bad rows, the first is") for line in lines)


def test_a_line_that_is_no_json_is_named(tmp_path, shop):
    path = shop(ratings(BOOKS), "ratings.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], '{"reader": ', *lines[5:]]))
    with pytest.raises(DataError, match=r"ratings.jsonl:6: not valid JSON"):
        made(tmp_path, path, shop(BOOKS, "books.csv"))


def test_columns_that_cannot_be_told_are_asked_for(tmp_path, shop):
    path, items = shop(ratings(BOOKS), "ratings.csv"), shop(BOOKS, "books.csv")
    with pytest.raises(
        DataError, match=r"which column is the user\? name it with --user-col; there are 'reader'"
    ):
        made(tmp_path, path, items, OwnData())
    with pytest.raises(DataError, match=r"no column 'raeder' for the user; did you mean 'reader'\?"):
        made(tmp_path, path, items, OwnData(user="raeder"))
    with pytest.raises(DataError, match=r"names no column 'writer'"):
        made(tmp_path, path, items, OwnData(user="reader", title="{name} by {writer}"))
    one = shop([{**book, "subjects": ["All"]} for book in BOOKS], "one.csv")
    lines = []
    assert made(tmp_path, path, one, report=lines.append).categories == ("All",)
    assert any("the items have 1 subject in all: they can be ranked" in line for line in lines)


def test_ids_of_two_kinds_are_shown_side_by_side(tmp_path, shop):
    items = shop([{**book, "isbn": f"x{n}"} for n, book in enumerate(BOOKS)], "books.csv")
    with pytest.raises(DataError, match="item ids look like '978-00000', the catalogue's like 'x0'"):
        made(tmp_path, shop(ratings(BOOKS), "ratings.csv"), items)


@pytest.mark.parametrize("source", ["nothing-*.csv", "gone.parquet"])
def test_files_that_are_not_there(tmp_path, source):
    with pytest.raises(DataError, match="no such file"):
        prepare(tmp_path / source, tmp_path / "out")


def test_settings_for_own_files_beside_a_release_are_refused(tmp_path):
    with pytest.raises(DataError, match="is not an event file, but user apply only to event files"):
        prepare("ml-100k", tmp_path / "out", own=OwnData(user="reader"))


@pytest.mark.parametrize(
    ("values", "thresholds"),
    [((1, 2, 3, 4, 5), (3.5, 3.0)), ((0, 100), (62.5, 50)), ((-1, 1), (0.25, 0)), ((1, 4, 10), (6.625, 5.5))],
)
def test_thresholds_stand_on_every_scale_as_the_papers_do_on_its_own(values, thresholds):
    scale = rating_scale(np.array(values, dtype=float), None)
    assert default_thresholds(scale.values) == thresholds


def test_thumbs_are_a_scale_of_two(tmp_path, shop):
    rows = [{**row, "stars": "up" if row["stars"] > 5 else "Down"} for row in ratings(BOOKS)]
    dataset = made(tmp_path, shop(rows, "ratings.csv"), shop(BOOKS, "books.csv"))
    assert dataset.info.rating_values == (0.0, 1.0)
    assert dataset.rating_values[dataset.interactions.rating_index].mean() == pytest.approx(
        np.mean([row["stars"] == "up" for row in rows])
    )


def test_too_fine_a_scale_is_refused_with_a_step_that_fits():
    fine = np.linspace(0, 10, 1001)
    with pytest.raises(DataError, match=r"1,001 distinct values \(0 to 10\), .* --rating-step 0.05"):
        rating_scale(fine, None)
    scale = rating_scale(fine, 0.05)
    assert len(scale.values) == 201
    assert np.abs(np.array(scale.values)[scale.index] - fine).max() <= 0.0251


def test_ratings_that_are_all_the_same_are_no_ratings():
    with pytest.raises(DataError, match="--feedback implicit"):
        rating_scale(np.ones(5), None)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_counts_become_powers_of_two_that_keep_their_order(counts):
    scale = weight_scale(np.array(counts, dtype=float))
    worth = np.array(scale.values)[scale.index]
    assert all(
        value <= min(count, 16) < 2 * value or count >= 16 for value, count in zip(worth, counts, strict=True)
    )
    assert (np.diff(worth[np.argsort(counts)]) >= 0).all()


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50))
def test_other_weights_become_at_most_five_levels_in_order(weights):
    scale = weight_scale(np.array([*weights, 0.5]))
    worth = np.array(scale.values)[scale.index]
    assert len(scale.values) <= 5
    assert (np.diff(worth[np.argsort([*weights, 0.5])]) >= 0).all()


def test_purchases_are_summed_and_the_last_time_counts(tmp_path, shop):
    rows = purchases(BOOKS)
    dataset = made(tmp_path, shop(rows, "purchases.parquet"), shop(BOOKS, "books.jsonl"), BOUGHT)
    info = dataset.info
    assert (info.feedback, info.like_above, info.dislike_below) == ("implicit", 1.25, 0.75)
    pairs = {}
    for row in rows:
        pairs.setdefault((row["customer_id"], row["isbn"]), []).append(row["ts"] // 1000)
    assert len(dataset.interactions) == len(pairs)
    assert info.report["repeated_events"] == len(rows) - len(pairs)
    [history] = dataset.histories(["5"])
    for item_id, weight, when in zip(history.item_ids, history.ratings, history.timestamps, strict=True):
        times = pairs[5, item_id]
        assert when == max(times)
        assert weight <= len(times) < 2 * weight


def test_the_shares_are_the_training_users_and_decide_the_labels(tmp_path, shop):
    dataset = made(tmp_path, shop(purchases(BOOKS), "purchases.csv"), shop(BOOKS, "books.csv"), BOUGHT)
    task = load_task(TaskSettings(), dataset.info)
    statistics = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
    train = dataset.users("train")
    shares = statistics.total[train].sum(0) / statistics.whole[train].sum()
    assert dataset.info.category_shares == pytest.approx(shares)
    labels = task.labels(statistics)
    for user in range(len(dataset.user_ids)):
        lift = statistics.total[user] / statistics.whole[user] / shares
        liked = [one for one in labels.liked[user] if one >= 0]
        assert all(lift[one] > 1.25 and statistics.count[user, one] >= 3 for one in liked)
        assert (np.diff(lift[liked]) <= 0).all()
        assert all(lift[one] < 0.75 for one in labels.disliked[user] if one >= 0)
    assert (labels.liked >= 0).any(axis=1).mean() > 0.8


def test_a_category_that_is_never_chosen_is_disliked(tmp_path, shop):
    rows = [row for row in purchases(BOOKS) if row["customer_id"] > 0]
    no_crime = [book["isbn"] for book in BOOKS if "Crime" not in book["subjects"]]
    rows += [{"customer_id": 0, "isbn": isbn, "ts": 1_600_000_000_000} for isbn in no_crime[:40]]
    dataset = made(tmp_path, shop(rows, "purchases.csv"), shop(BOOKS, "books.csv"), BOUGHT)
    task = load_task(TaskSettings(), dataset.info)
    statistics = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
    [answer] = task.target_texts(task.labels(statistics[np.array([dataset.user_index("0")])]))
    assert "doesn't like Crime" in answer


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("A|B", "|"),
        ("A; B", ";"),
        ("A, B", ","),
        ('["A", "B"]', None),
        ("['A', 'B']", None),
    ],
)
def test_categories_in_text_fall_apart_as_they_are_written(tmp_path, shop, written, expected):
    items = [
        {
            "isbn": book["isbn"],
            "title": book["name"],
            "genre": written if n % 3 else written.replace("A", "C"),
        }
        for n, book in enumerate(BOOKS)
    ]
    items += [{"isbn": f"n{n}", "title": "x", "genre": name} for n, name in enumerate(("A", "B", "C"))]
    lines = []
    own = OwnData(user="reader")
    dataset = made(
        tmp_path, shop(ratings(BOOKS), "r.csv"), shop(items, "books.csv"), own, report=lines.append
    )
    assert dataset.info.categories == ("A", "B", "C")
    assert any(
        ("separated by" in line) == (expected is not None) for line in lines if line.startswith("items:")
    )


def test_only_the_commonest_categories_are_kept(tmp_path, shop):
    own = OWN.model_copy(update={"max_categories": 3})
    dataset = made(tmp_path, shop(ratings(BOOKS), "r.csv"), shop(BOOKS, "books.csv"), own)
    assert len(dataset.info.categories) == 3
    assert dataset.info.report["rare_categories_left_out"] == len(SUBJECTS) - 3


def test_settings_come_from_a_file_and_options_win(tmp_path):
    path = tmp_path / "books.yaml"
    path.write_text("user: reader\nrating: stars\n")
    assert own_settings(path, {"user": "who", "rating": None}) == OwnData(user="who", rating="stars")
    path.write_text("usr: reader\n")
    with pytest.raises(RecipeError, match=r"books.yaml: unknown key 'usr'; did you mean 'user'\?"):
        own_settings(path, {})
    with pytest.raises(RecipeError, match=r"^feedback: "):
        own_settings(None, {"feedback": "maybe"})


def test_faults_of_events_and_items_are_told_at_once_with_the_nearest_columns(tmp_path):
    events, items = tmp_path / "events.csv", tmp_path / "items.csv"
    events.write_text("usr_id,thing,stars\n1,2,3\n")
    items.write_text("thing,label\n2,x\n")
    with pytest.raises(DataError) as caught:
        made(tmp_path, events, items, OwnData(time="when"))
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "which column is the user? name it with --user-col, perhaps 'usr_id'",
        "which column is the item? name it with --item-col",
        "no column 'when' for the time",
        "there are 'usr_id', 'thing', 'stars'",
    ):
        assert said.count(part) == 1, said


def test_a_first_line_of_data_is_no_header_and_columns_may_be_named(tmp_path, shop):
    rows = [{**row, "reader": row["reader"].removeprefix("reader-")} for row in ratings(BOOKS)]
    path, items = shop(rows, "u.data"), shop(BOOKS, "books.csv")
    path.write_text(path.read_text().partition("\n")[2].replace(",", "\t"))
    with pytest.raises(
        DataError, match=r"u.data: the first line contains data, .*; name all columns with --columns"
    ):
        made(tmp_path, path, items, OwnData())
    lines = []
    own = own_settings(None, {"columns": "user,isbn,rating,time", "title": "name"})
    dataset = made(tmp_path, path, items, own, report=lines.append)
    assert len(dataset.interactions) == len(rows)
    assert f"{path} has no header line; its columns are read as user, isbn, rating, time" in lines


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_in_movielens_layout_on_another_scale_is_read_by_its_own(tmp_path, ending):
    rows = ratings(BOOKS)
    number = {book["isbn"]: n for n, book in enumerate(BOOKS)}
    events = [
        f"{row['reader'][7:]}::{number[row['isbn']]:07}::{row['stars']}::{1_600_000_000 + n}"
        for n, row in enumerate(rows)
    ]
    items = [
        f"{n:07}::{book['name']}: a book (1999)::{'|'.join(book['subjects'])}" for n, book in enumerate(BOOKS)
    ]
    for name, lines in (("ratings.dat", events), ("movies.dat", items)):
        content = "\n".join(lines).encode()
        (tmp_path / f"{name}{ending}").write_bytes(gzip.compress(content) if ending else content)
    dataset = prepare(tmp_path, tmp_path / "out")
    assert dataset.info.rating_values == tuple(range(1, 11))
    assert len(dataset.interactions) == len(rows)
    assert dataset.item_ids[3] == "0000003"
    assert dataset.info.categories == SUBJECTS
    pair = [tmp_path / f"{name}.dat{ending}" for name in ("ratings", "movies")]
    again = made(tmp_path, *pair, OwnData(), out="again")
    assert again.info.fingerprint == dataset.info.fingerprint


def test_times_of_two_units_are_refused_with_the_line_or_left_out(tmp_path, shop):
    rows = [{**row, "rated_at": 1_600_000_000 + n} for n, row in enumerate(ratings(BOOKS))]
    rows[30]["rated_at"] *= 1000
    path, items = shop(rows, "ratings.csv"), shop(BOOKS, "books.csv")
    with pytest.raises(
        DataError, match=r"ratings.csv:32: the time '1600000030000' is in milliseconds, but most"
    ):
        made(tmp_path, path, items)
    dataset = made(tmp_path, path, items, OWN.model_copy(update={"skip_bad_rows": True}))
    assert dataset.info.report["bad_rows"] == 1


def test_of_rows_left_out_for_several_reasons_the_first_is_named_and_all_are_counted(tmp_path, shop):
    rows = ratings(BOOKS)
    path, items = shop(rows, "ratings.csv"), shop(BOOKS, "books.csv")
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([*lines[:10], "reader-1,978-00001", *lines[10:], "reader-1,978-00001,five,2020-01-01"])
    )
    said = []
    dataset = made(tmp_path, path, items, OWN.model_copy(update={"skip_bad_rows": True}), report=said.append)
    assert dataset.info.report["bad_rows"] == 2
    assert len(dataset.interactions) == len(rows)
    assert any(
        re.search(r"skipped 2 bad rows, the first is .*:11: found 2 fields, expected 4 as in the header", one)
        for one in said
    )


def test_ratings_of_every_type_are_the_same_scale(tmp_path, shop):
    table = pl.DataFrame(ratings(BOOKS))
    items = shop(BOOKS, "books.csv")
    plain = made(tmp_path, shop(ratings(BOOKS), "plain.csv"), items, out="plain").info.fingerprint
    text = pl.col("stars").cast(pl.String)
    for number, stars in enumerate(
        (
            text.cast(pl.Categorical),
            text.cast(pl.Enum([str(n) for n in range(11)])),
            text.cast(pl.Decimal(5, 2)),
        )
    ):
        path = tmp_path / f"{number}.parquet"
        table.with_columns(stars=stars, reader=pl.col("reader").cast(pl.Categorical)).write_parquet(path)
        assert made(tmp_path, path, items, out=f"{number}").info.fingerprint == plain
    table.with_columns(stars=pl.lit(START)).write_parquet(tmp_path / "dates.parquet")
    with pytest.raises(DataError, match=r"dates.parquet: column 'stars' holds Datetime"):
        made(tmp_path, tmp_path / "dates.parquet", items, out="dates")


TABLE = "user_id,item_id,rating,timestamp\n"
CATALOGUE = "item_id,genres\ni1,A\ni2,B\n"


def read_text(tmp_path, events, items=CATALOGUE, **own):
    (tmp_path / "e.csv").write_text(TABLE + events)
    (tmp_path / "i.csv").write_text(items)
    own = OwnData(items=str(tmp_path / "i.csv"), **own)
    return prepare(tmp_path / "e.csv", tmp_path / "out", own=own, min_ratings=1)


def test_of_ratings_within_a_second_the_last_counts(tmp_path):
    events = "a,i1,5,1600000002.25\nb,i1,1,1600000000\nc,i2,3,1600000001.5\na,i1,2,1600000001.75\n"
    dataset = read_text(tmp_path, events)
    [history] = dataset.histories(["a"])
    assert (history.ratings, history.timestamps) == ([5.0], [1_600_000_002])
    assert dataset.info.report["duplicate_ratings"] == 1


def test_rows_of_items_without_an_id_are_counted(tmp_path):
    events = "a,i1,5,1600000002\nb,i1,1,1600000000\nc,i2,3,1600000001\n"
    dataset = read_text(tmp_path, events, CATALOGUE + ",C\n  ,D\n")
    assert dataset.info.report["items_without_id"] == 2
    assert list(dataset.item_ids) == ["i1", "i2"]


@pytest.mark.parametrize(
    ("events", "items", "message"),
    [
        ("a,i1,5,1\nb,i1,5,2\nc,i2,5,3\n", CATALOGUE, "e.csv: all ratings are the same"),
        ("a,i1,5,1\nb,i1,1,2\n", CATALOGUE, "e.csv: 2 users with at least 1 ratings are too few"),
        ("a,i8,5,1\nb,i9,1,2\n", CATALOGUE, "e.csv: no event has an item of the catalogue"),
    ],
)
def test_what_is_wrong_with_a_file_as_a_whole_names_it(tmp_path, events, items, message):
    with pytest.raises(DataError) as caught:
        read_text(tmp_path, events, items)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")
    assert not (tmp_path / "out").exists()


def test_the_texts_of_reviews_are_not_those_of_items(tmp_path):
    rows = [
        {
            "user": f"u{user}",
            "item": f"i{item}",
            "rating": 1 + (user + item) % 5,
            "time": user,
            "summary": f"{user} {item}",
        }
        for user in range(6)
        for item in range(4)
    ]
    lines = []
    path = write_rows(rows, tmp_path / "reviews.jsonl")
    data = prepare(path, tmp_path / "data", dev_share=0.2, test_share=0.2, report=lines.append)
    assert data.info.described_items == 0
    assert "{summary} differs between the events of an item: not its description (--description-col)" in lines
    data = prepare(
        path, tmp_path / "named", own=OwnData(description="summary"), dev_share=0.2, test_share=0.2
    )
    assert data.info.described_items == 4
