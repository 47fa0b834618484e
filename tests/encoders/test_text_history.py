"""Histories as text: the paper's format, truncated at item boundaries, through any T5."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.backbones.t5 import random_t5
from palate.config.recipe import TextSettings
from palate.encoders.text import BlockCatalogue
from palate.errors import DataError, MismatchError
from palate.items.blocks import BlockTable, build_block_table
from palate.model.model import PersonalizedModel
from palate.schema import History, Item
from tiny import TEXTS, TINY_T5, made_up_table, tiny_model, tiny_settings

ITEMS = [
    ("m1", "The Matrix", ("Action", "Sci-Fi"), "A hacker discovers\n---\nreality."),
    ("m2", "Untitled", (), None),
    ("m3", "Brazil", ("Comedy",), "  "),
]


@pytest.fixture(scope="module")
def blocks():
    empty = BlockTable([], [], [], np.array([0.5, 5.0], dtype=np.float32), "genre")
    return empty.extended([Item(*one) for one in ITEMS])


def text_model(dataset, table=None, max_length=200, task_prompt=2, **backbone):
    torch.manual_seed(0)
    table = table or build_block_table(dataset)
    written = [table.block(item, 0) for item in range(len(table))]
    made = random_t5(TINY_T5.model_copy(update=backbone), TEXTS + written)
    with torch.no_grad():
        for weight in made.model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    config = tiny_settings(dataset, TextSettings(max_length=max_length), task_prompt=task_prompt)
    return PersonalizedModel(config, made, table).eval()


def history(dataset, items, rating=4.0):
    ids = [dataset.item_ids[item] for item in items]
    return History("someone", ids, [rating] * len(ids), list(range(len(ids))))


def test_a_block_is_the_papers(blocks):
    assert blocks.block(0, 1) == (
        "title: The Matrix\ngenre: Action, Sci-Fi\nrating: 5\ndescription: A hacker discovers --- reality.\n---\n"
    )
    assert blocks.block(1, 0) == "title: Untitled\nrating: 0.5\n---\n"
    assert blocks.block(2, 1) == "title: Brazil\ngenre: Comedy\nrating: 5\n---\n"


def test_descriptions_can_be_left_out(tiny_data):
    described = replace(tiny_data, items=tiny_data.items.with_columns(description=pl.lit("A film.")))
    with_them, without = (build_block_table(described, keep) for keep in (True, False))
    assert with_them.block(0, 0).splitlines()[-2] == "description: A film."
    assert without.block(0, 0) == with_them.block(0, 0).replace("description: A film.\n", "")


def test_blocks_come_back_from_disk(blocks, tmp_path):
    blocks.save(tmp_path / "items")
    again = BlockTable.load(tmp_path / "items")
    assert [again.block(item, 1) for item in range(3)] == [blocks.block(item, 1) for item in range(3)]
    assert again.item_ids == blocks.item_ids
    (tmp_path / "items" / "blocks.json").write_text('{"item_ids": ["a"]}')
    with pytest.raises(DataError, match=r"blocks.json.*copy the model again"):
        BlockTable.load(tmp_path / "items")


def test_a_known_item_keeps_its_text(blocks):
    assert len(blocks.extended([Item(*ITEMS[0])])) == 3
    with pytest.raises(DataError, match="'m1' is already known with other texts"):
        blocks.extended([Item("m1", "The Matrix Reloaded")])
    with pytest.raises(DataError, match="'m9'"):
        blocks.index_of(["m9"])


events = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=8)


@given(st.lists(events, min_size=1, max_size=4), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_a_history_is_its_newest_blocks_that_fit_whole_and_never_empty(blocks, histories, most):
    tokenizer = random_t5(TINY_T5, TEXTS).tokenizer
    longest = max(map(len, histories)) or 1
    item, rating = torch.zeros(len(histories), longest, dtype=torch.long), None
    rating, mask = item.clone(), torch.zeros(len(histories), longest, dtype=torch.bool)
    for row, one in enumerate(histories):
        for place, (which, rated) in enumerate(one):
            item[row, place], rating[row, place], mask[row, place] = which, rated, True
    text = BlockCatalogue(blocks, tokenizer, most)(
        unique=torch.arange(3), item=item, rating=rating, mask=mask, time=mask.double()
    )
    for row, one in enumerate(histories):
        written = [tokenizer(blocks.block(*event), add_special_tokens=False)["input_ids"] for event in one]
        while len(written) > 1 and sum(map(len, written)) > most:
            written = written[1:]
        fitting = [token for ids in written for token in ids][:most]  # cut only where one item stands alone
        assert text.token_ids[row][text.mask[row]].tolist() == fitting
        assert not text.mask[row].int().diff().gt(0).any()  # padding at the right end
    assert text.token_ids.shape[1] == max(1, int(text.mask.sum(dim=1).max()))


def test_the_backbone_reads_what_its_tokenizer_makes_of_the_whole_text(tiny_data):
    model = text_model(tiny_data, task_prompt=0, max_length=1000)
    person = history(tiny_data, [3, 7, 1])
    table, tokenizer = model.table, model.tokenizer
    rating = int(np.flatnonzero(table.rating_values == 4.0)[0])
    whole = "".join(table.block(item, rating) for item in (3, 7, 1)) + model.settings.instruction
    ids = tokenizer([whole], return_tensors="pt")
    wanted = model.backbone.generate(**ids, max_new_tokens=12, do_sample=False)
    assert model.generate([person]) == tokenizer.batch_decode(wanted, skip_special_tokens=True)


@pytest.mark.parametrize(
    "backbone",
    [{}, {"attention": "local", "local_radius": 7}, {"attention": "transient-global", "local_radius": 7}],
)
def test_a_text_model_comes_back_from_disk_and_answers_alone_as_in_a_batch(tiny_data, tmp_path, backbone):
    model = text_model(tiny_data, **backbone)
    people = [history(tiny_data, items) for items in ([1, 2, 3, 4, 5], [6], [])]
    answers = model.generate(people)
    model.save_pretrained(tmp_path / "model")
    again = PersonalizedModel.from_pretrained(tmp_path / "model")
    assert again.generate(people) == answers
    assert type(again.backbone) is type(model.backbone)
    if not backbone:  # LongT5's blocks of tokens are laid over the padded batch
        assert [model.generate([one])[0] for one in people] == answers
    assert "none: items are read as text" in (tmp_path / "model" / "README.md").read_text()


def test_the_rating_changes_what_is_read(tiny_data):
    model = text_model(tiny_data)
    low, high = (model.events([history(tiny_data, [1, 2], rating)]) for rating in (1.0, 5.0))
    assert not torch.equal(low.token_ids, high.token_ids)


def test_a_text_model_and_an_embedding_model_do_not_take_each_others_items(tiny_data):
    from palate.config.recipe import StreamingSettings

    text = text_model(tiny_data)
    vectors = tiny_model(tiny_data, StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2))
    with pytest.raises(MismatchError, match="items as text"):
        text.with_table(made_up_table(tiny_data))
    with pytest.raises(MismatchError, match="item vectors of"):
        vectors.with_table(build_block_table(tiny_data))


def test_a_newest_item_longer_than_the_limit_is_cut_and_still_read(tiny_data):
    model = text_model(tiny_data, max_length=7)
    person = history(tiny_data, [3, 7])
    text = model.events([person])
    rating = int(np.flatnonzero(model.table.rating_values == 4.0)[0])
    whole = model.tokenizer(model.table.block(7, rating), add_special_tokens=False)["input_ids"]
    assert text.token_ids[text.mask].tolist() == whole[:7]
