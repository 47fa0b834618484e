"""Tables of other libraries are read like files, and datasets are returned as such tables."""

from pathlib import Path

import polars as pl
import pytest

import palate
from palate.data.example import write_example
from palate.data.frames import IN_MEMORY
from palate.errors import DataError, MissingExtraError
from palate.system.extras import install_line, missing_modules


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("frames") / "shop")


@pytest.fixture(scope="module")
def tables(shop):
    return pl.read_csv(shop / "events.csv"), pl.read_csv(shop / "items.csv")


@pytest.fixture(scope="module")
def read(shop):
    return palate.prepare(shop / "events.csv", shop / "read", items=shop / "items.csv")


def of_datasets(table):
    return pytest.importorskip("datasets").Dataset(table.to_arrow())


def of_pandas(table):
    pytest.importorskip("pandas", minversion="2.2")
    return table.to_pandas()


@pytest.mark.parametrize(
    "kind",
    [lambda table: table, pl.DataFrame.to_arrow, of_pandas, of_datasets],
    ids=["polars", "pyarrow", "pandas", "datasets"],
)
def test_tables_give_the_dataset_of_their_files(kind, tables, read, tmp_path):
    events, items = map(kind, tables)
    data = palate.prepare(events, tmp_path / "data", items=items)
    assert data.info.fingerprint == read.info.fingerprint
    assert data.info.source == IN_MEMORY
    assert palate.load_dataset(tmp_path / "data").info == data.info
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_events_of_a_table_may_go_with_items_of_a_file(tables, shop, read, tmp_path):
    data = palate.prepare(tables[0], tmp_path / "data", items=shop / "items.csv")
    assert data.info.fingerprint == read.info.fingerprint


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="events: found a int, expected a file name, or an in-memory table"):
        palate.prepare(3, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_dataset_as_a_table_is_the_dataset_again(read, tmp_path):
    events = read.to_frame()
    assert events.columns == ["user_id", "item_id", "rating", "timestamp", "split"]
    history = read.histories([read.user_ids[3]])[0]
    own = events.filter(pl.col("user_id") == read.user_ids[3])
    assert own["item_id"].to_list() == history.item_ids
    assert own["rating"].to_list() == history.ratings
    assert own["timestamp"].to_list() == history.timestamps
    again = palate.prepare(events.drop("split"), tmp_path / "data", items=read.items)
    assert again.info.interactions == read.info.interactions
    assert again.info.categories == read.info.categories
    assert again.histories([read.user_ids[3]]) == [history]


def test_splits_and_items_are_given_as_the_hub_holds_them(read, tmp_path):
    datasets = pytest.importorskip("datasets")
    events, items = read.to_datasets()
    assert {name: len(set(part["user_id"])) for name, part in events.items()} == {
        "train": read.info.split_sizes["train"],
        "validation": read.info.split_sizes["dev"],
        "test": read.info.split_sizes["test"],
    }
    assert len(items) == read.info.items
    with pytest.raises(DataError, match=r"several splits \(train, validation, test\)"):
        palate.prepare(events, tmp_path / "data")
    joined = datasets.concatenate_datasets(list(events.values()))
    again = palate.prepare(joined, tmp_path / "data", items=items)
    assert again.info.interactions == read.info.interactions


@pytest.mark.skipif(not missing_modules("datasets"), reason="datasets is installed")
def test_without_the_library_its_install_is_named(read):
    with pytest.raises(MissingExtraError) as caught:
        read.to_datasets()
    assert install_line("datasets") in str(caught.value)


def test_the_shops_files_are_written_whole(tmp_path):
    shop = Path(palate.__file__).parent / "data" / "shop"
    place = write_example(tmp_path / "a" / "b")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {
        name: (shop / name).read_bytes() for name in ("events.csv", "items.csv")
    }
