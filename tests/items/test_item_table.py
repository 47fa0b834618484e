import hashlib
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.data.dataset import Dataset, DatasetInfo
from palate.errors import DataError, MismatchError, OutputError
from palate.items.encoder import EncoderIdentity
from palate.items.table import HEADER, VECTORS, ItemTable, build_item_table
from palate.items.texts import ItemTexts
from palate.schema import Interactions, Item

SIZE = 8


def vector_of(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)


class HashEncoder:
    """Stands for the item encoder: each text has its own vector."""

    def __init__(self, content: str = "hash") -> None:
        self.identity = EncoderIdentity("hash", None, content, 256)
        self.seen = []

    def encode(self, texts, progress=None):
        self.seen += texts
        return np.stack([np.empty(SIZE, np.float32), *map(vector_of, texts)])[1:]


@pytest.fixture
def dataset() -> Dataset:
    items = pl.DataFrame(
        {
            "item_id": ["m1", "m2", "m3"],
            "title": ["Toy Story", "Alien", "Unlisted"],
            "year": [1995, 1979, None],
            "categories": [["Animation", "Comedy"], ["Horror"], []],
            "description": ["Toys.", None, " "],
        },
        schema_overrides={"categories": pl.List(pl.String)},
    )
    info = DatasetInfo(
        name="three",
        source="test",
        checksums={},
        licence="none",
        users=0,
        items=3,
        interactions=0,
        rating_values=(0.5, 4.0),
        category_field="genre",
        categories=("Animation", "Comedy", "Horror"),
        min_ratings=1,
        split_seed=0,
        split_sizes={"train": 0, "dev": 0, "test": 0},
        described_items=1,
        report={},
        fingerprint="sha256:0",
    )
    nothing = Interactions(
        np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.int64)
    )
    return Dataset(info, nothing, [], items, np.zeros(0, np.uint8))


@pytest.fixture
def table(dataset) -> ItemTable:
    return build_item_table(dataset, HashEncoder())


def assert_same(first: ItemTable, second: ItemTable) -> None:
    assert first.item_ids == second.item_ids
    assert first.encoder == second.encoder
    assert first.texts == second.texts
    for name in ("vectors", "present", "rating_values", "rating_vectors"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), strict=True)
    assert first.fingerprint == second.fingerprint


def test_each_vector_stands_at_its_items_place(table):
    assert table.item_ids == ["m1", "m2", "m3"]
    np.testing.assert_array_equal(table.present, [[True, True], [True, False], [True, False]])
    title = "The movie Toy Story is listed with genres Animation, Comedy"
    np.testing.assert_array_equal(table.vectors[0], [vector_of(title), vector_of("Toys.")])
    np.testing.assert_array_equal(
        table.vectors[2, 0], vector_of("The movie Unlisted is listed with no genres")
    )
    np.testing.assert_array_equal(table.vectors[1:, 1], 0)
    np.testing.assert_array_equal(table.rating_vectors[1], vector_of("The movie is rated with 4 stars"))
    assert table.size == SIZE
    assert len(table) == 3


def test_a_catalogue_without_descriptions_has_zeros_there(dataset):
    bare = Dataset(
        dataset.info,
        dataset.interactions,
        [],
        dataset.items.with_columns(description=pl.lit(None, pl.String)),
        dataset.split_of_user,
    )
    table = build_item_table(bare, HashEncoder())
    np.testing.assert_array_equal(table.vectors[:, 1], 0)
    assert not table.present[:, 1].any()


def test_index_of_keeps_the_order_asked_for(table):
    index = table.index_of(["m3", "m1", "m3"])
    np.testing.assert_array_equal(index, [2, 0, 2])
    assert index.dtype == np.int32
    assert len(table.index_of([])) == 0


def test_unknown_ids_are_counted_and_some_are_named(table):
    with pytest.raises(DataError, match=r"4 item ids are not known: 'x', 'y', 'z', …; give their texts"):
        table.index_of(["m1", "x", "y", "x", "z", "w"])


def test_saved_and_loaded_it_is_the_same_table(table, tmp_path):
    table.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table")
    assert_same(loaded, table)
    assert loaded.vectors.flags.writeable  # torch warns when it shares memory that is not


def test_a_folder_in_use_is_not_written_to(table, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        table.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([HEADER, VECTORS]), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7)
)
def test_no_flipped_bit_goes_unnoticed(table, tmp_path_factory, name, where, bit):
    folder = tmp_path_factory.mktemp("flip") / "table"
    table.save(folder)
    data = bytearray((folder / name).read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    (folder / name).write_bytes(data)
    try:
        loaded = ItemTable.load(folder)
    except DataError as error:
        assert str(folder) in str(error)  # noqa: PT017 - loading may also succeed, see below
    else:  # white space, or the encoder's name: nothing that the content hangs on
        assert_same(loaded, table)


@pytest.mark.parametrize("name", [HEADER, VECTORS])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_a_damaged_table_says_which_file(table, tmp_path, name, damage):
    table.save(tmp_path / "table")
    path = tmp_path / "table" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else -10])
    with pytest.raises(DataError) as caught:
        ItemTable.load(tmp_path / "table")
    assert caught.value.path == path


def test_a_template_in_the_header_cannot_reach_into_objects(table, tmp_path):
    table.save(tmp_path / "table")
    path = tmp_path / "table" / HEADER
    header = json.loads(path.read_text())
    header["texts"]["listed"] = "{title.__class__.__init__.__globals__}"
    path.write_text(json.dumps(header))
    with pytest.raises(
        DataError, match=r"items.json: the item text 'listed' contains .*; expected only \{categories\}"
    ):
        ItemTable.load(tmp_path / "table")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vectors", np.zeros((3, 2, SIZE), np.float64), "vectors are float64"),
        ("vectors", np.zeros((2, 2, SIZE), np.float32), r"vectors are float32 \[2, 2, 8\].*\[3, 2, 8\]"),
        ("vectors", np.full((3, 2, SIZE), np.nan, np.float32), "vectors contain numbers that are not finite"),
        ("present", np.ones((3, 1), np.bool_), r"present are bool \[3, 1\]"),
        ("rating_vectors", np.zeros((2, 3), np.float32), r"rating_vectors are float32 \[2, 3\]"),
        ("item_ids", ["m1", "m2", "m1"], "names 1 item ids more than once"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(table, name, value, message):
    parts = {key: getattr(table, key) for key in ItemTable.__dataclass_fields__}
    with pytest.raises(DataError, match=message):
        ItemTable(**{**parts, name: value})


def test_the_fingerprint_tells_contents_apart(table):
    parts = {key: getattr(table, key) for key in ItemTable.__dataclass_fields__}
    changed = [
        {},
        {"item_ids": ["m1", "m2", "m4"]},
        {"vectors": table.vectors + 1},
        {"present": ~table.present},
        {"rating_values": table.rating_values + 1},
        {"encoder": HashEncoder("other").identity},
        {"texts": ItemTexts(noun="film")},
    ]
    assert len({ItemTable(**{**parts, **change}).fingerprint for change in changed}) == len(changed)
    assert ItemTable(**parts).fingerprint == table.fingerprint


def test_new_items_come_after_the_known_ones(table):
    new = Item("m9", "Heat", ("Crime",), "Cops.")
    extended = table.extended([new, Item("m2", "Alien", ("Horror",)), new], HashEncoder())
    assert extended.item_ids == ["m1", "m2", "m3", "m9"]
    np.testing.assert_array_equal(extended.vectors[:3], table.vectors)
    np.testing.assert_array_equal(
        extended.vectors[3], [vector_of("The movie Heat is listed with genres Crime"), vector_of("Cops.")]
    )
    assert extended.fingerprint != table.fingerprint
    assert_same(table.extended([], HashEncoder()), table)


@pytest.mark.parametrize(
    "items",
    [
        [Item("m2", "Aliens", ("Horror",))],
        [Item("m2", "Alien", ("Horror",), "In space.")],
        [Item("m9", "Heat"), Item("m9", "Ronin")],
    ],
)
def test_an_id_cannot_be_given_two_texts(table, items):
    with pytest.raises(DataError, match="is already known with other texts; give it a new id"):
        table.extended(items, HashEncoder())


def test_new_items_need_the_tables_encoder(table):
    with pytest.raises(
        MismatchError, match=r"hash \(hash, at most 256 tokens\).*hash \(other.*use the table's"
    ):
        table.extended([Item("m9", "Heat")], HashEncoder("other"))
