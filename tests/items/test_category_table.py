"""Item tables by category names: lookup, extension, files and digests."""

import json

import numpy as np
import pytest

from palate.config.recipe import ItemSettings
from palate.errors import DataError
from palate.items.categories import MEMBER, CategoryTable, build_category_table
from palate.items.encoder import ItemEncoder
from palate.schema import Item
from small_dataset import small_dataset
from tiny import save_tiny_encoder

SCALE = np.array([1, 2, 3], dtype=np.float32)


def table(**changes):
    content = {
        "item_ids": ["a", "b", "c"],
        "titles": ["A", "B", "C"],
        "membership": MEMBER * np.array([[1, 0], [1, 1], [0, 0]], dtype=np.int16),
        "categories": ("喜剧", "Western"),
        "rating_values": SCALE,
        "field": "genre",
    }
    return CategoryTable(**{**content, **changes})


def test_it_holds_the_items_and_categories_of_a_dataset():
    data = small_dataset()
    built = build_category_table(data)
    assert built.item_ids == data.item_ids
    assert np.array_equal(built.membership, MEMBER * data.category_matrix.astype(int))
    assert built.index_of(["i3", "i0"]).tolist() == [3, 0]
    assert built.unknown(["i3", "x", "x", "y"]) == ["x", "y"]
    with pytest.raises(DataError, match="'x'"):
        built.index_of(["x"])


def test_it_comes_back_as_it_was_saved(tmp_path):
    table().save(tmp_path / "items")
    again = CategoryTable.load(tmp_path / "items")
    assert (again.item_ids, again.titles, again.categories) == (
        ["a", "b", "c"],
        ["A", "B", "C"],
        ("喜剧", "Western"),
    )
    assert np.array_equal(again.membership, table().membership)
    assert np.array_equal(again.rating_values, SCALE)
    assert again.digest() == table().digest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header: header.update(item_ids=["a", "b", "a"]), "'a' occurs twice"),
        (lambda header: header.update(categories=["喜剧"]), "out of bounds"),
        (
            lambda header: header.update(categories=["喜剧", "Drama"]),
            "does not match the digest in categories.json",
        ),
        (lambda header: header.update(titles=["A"]), "1 titles"),
        (lambda header: header.pop("field"), "field: is missing"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, said):
    table().save(tmp_path / "items")
    path = tmp_path / "items" / "categories.json"
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))
    with pytest.raises(DataError, match=f"items/categories.*{said}.*copy the model again"):
        CategoryTable.load(tmp_path / "items")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="no items' categories can be read here"):
        CategoryTable.load(tmp_path)


def test_new_items_and_categories_are_appended():
    longer = table().extended([Item("d", "D", ("Western", "Noir")), Item("b", "B", ("Western", "喜剧"))])
    assert longer.item_ids == ["a", "b", "c", "d"]
    assert longer.categories == ("喜剧", "Western", "Noir")
    assert longer.named(3) == ("Noir", "Western")
    assert np.array_equal(longer.membership[:3, :2], table().membership)
    assert not longer.membership[:3, 2].any()


@pytest.mark.parametrize("item", [Item("a", "A", ("Western",)), Item("a", "Other", ("喜剧",))])
def test_a_known_item_with_other_categories_is_refused(item):
    with pytest.raises(DataError, match="'a' is already known with other texts; give it a new id"):
        table().extended([item])


def test_one_new_id_stands_for_one_item():
    with pytest.raises(DataError, match="'d' is already known"):
        table().extended([Item("d", "D", ("Western",)), Item("d", "D", ("喜剧",))])


def test_a_part_holds_the_items_that_are_named():
    part = table().part(["c", "a", "x", "c"])
    assert part.item_ids == ["c", "a"]
    assert [part.named(row) for row in range(2)] == [(), ("喜剧",)]
    assert part.categories == table().categories


def test_a_digest_tells_the_first_items_apart_whatever_follows():
    longer = table().extended([Item("d", "D", ("Noir",))])
    assert longer.digest(3) == table().digest()
    assert longer.digest() != table().digest()
    other = table(membership=MEMBER * np.array([[1, 1], [1, 1], [0, 0]], dtype=np.int16))
    assert other.digest(3) != table().digest()
    assert other.digest(0) == table().digest(0)
    assert table(rating_values=SCALE + 1).digest(0) != table().digest(0)
    swapped = table(categories=("Western", "喜剧"), membership=table().membership[:, ::-1])
    assert swapped.digest() == table().digest()  # by name, not by place
    assert set(swapped.category_ids) == set(table().category_ids)


def test_an_item_as_text_alone_needs_a_sentence_encoder(tmp_path):
    nowhere = ItemEncoder(ItemSettings(encoder=str(tmp_path / "nowhere"), cache=tmp_path / "cache"))
    with pytest.raises(DataError, match=r"'D' has no categories.*give its categories"):
        table().extended([Item("d", "D")], nowhere)


def test_an_item_as_text_alone_gets_the_categories_of_titles_like_its_own(tmp_path):
    encoder = ItemEncoder(
        ItemSettings(
            encoder=str(save_tiny_encoder(tmp_path / "made")), cache=tmp_path / "cache", max_seq_length=32
        )
    )
    titles = [f"{name} {number}" for number in range(20) for name in ("action action", "drama drama")]
    membership = MEMBER * np.tile(np.eye(2, dtype=np.int16), (20, 1))
    known = CategoryTable(
        [str(row) for row in range(40)], titles, membership, ("Action", "Drama"), SCALE, "genre"
    )
    new = [Item("x", "drama drama 7"), Item("y", "action action 3"), Item("z", "movie", ("Noir",))]
    longer = known.extended(new, encoder)
    assert [longer.named(row) for row in (40, 41, 42)] == [("Drama",), ("Action",), ("Noir",)]
    assert MEMBER / 2 <= longer.membership[40, 1] < MEMBER  # likely, not known
    alone = known.part(["3"]).extended(new[:1], encoder)  # the probe is that of the whole table
    assert alone.named(1) == ("Drama",)
