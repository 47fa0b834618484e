"""Users' texts about events as an additional field, for every user encoder that reads vectors."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from palate.config.recipe import (
    EquippedSettings,
    MLPSettings,
    ModelSettings,
    PooledSettings,
    ResamplerSettings,
    StreamingSettings,
    TextSettings,
    UEMSettings,
)
from palate.data.windows import draw_windows
from palate.errors import DataError
from palate.items.categories import build_category_table
from palate.items.event_texts import MOST_TEXT, encoded_texts, text_read, with_event_texts
from palate.model.model import PersonalizedModel
from palate.schema import History
from tiny import made_up_table, prepare_tiny, tiny_backbone, tiny_settings

ENCODERS = {
    "uem": UEMSettings(d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=16),
    "resampler": ResamplerSettings(num_queries=3, d_model=16, num_layers=1, num_heads=2),
    "mlp": MLPSettings(d_ff=16),
    "pooled": PooledSettings(d_ff=16),
    "streaming": StreamingSettings(num_queries=3, d_model=16, num_layers=1, num_heads=2),
    "equipped": EquippedSettings(
        encoder=ResamplerSettings(num_queries=3, d_model=16, num_layers=1, num_heads=2), d_model=16
    ),
}


class Letters:
    """Counts letters in the place of a sentence encoder."""

    def __init__(self):
        self.asked = []

    def fresh(self, texts):
        self.asked += texts
        rows = [[text.count(letter) for letter in "abcdefghijklmnop"] for text in texts]
        return np.array(rows, dtype=np.float32)

    def encode(self, texts, progress=None):
        return self.fresh(texts)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare_tiny(tmp_path_factory.mktemp("texts"), users=12)


def model_of(data, encoder, event_texts=True):
    table = made_up_table(data)
    if encoder.kind == "equipped":
        table = build_category_table(data, table)
    torch.manual_seed(0)
    model = PersonalizedModel(
        tiny_settings(data, encoder, event_texts=event_texts), tiny_backbone(), table
    ).eval()
    model._text_encoder = Letters()
    return model


def history_of(data, *texts):
    ids = data.item_ids[: len(texts) or 2]
    return History("u", ids, [4.0, 2.0], [10, 20], texts=texts)


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_encoder_of_vectors_reads_texts(data, kind):
    model = model_of(data, ENCODERS[kind])
    silent = model.encode([history_of(data)]).embeddings
    assert torch.equal(silent, model.encode([history_of(data, "", "")]).embeddings)
    told = model.encode([history_of(data, "a bad cable", "")]).embeddings
    assert not torch.allclose(silent, told)
    both = model.encode([history_of(data), history_of(data, "a bad cable", "")]).embeddings
    assert both[0].allclose(silent[0], atol=1e-5)  # a neighbour's text is nobody else's
    assert both[1].allclose(told[0], atol=1e-5)
    without = model_of(data, ENCODERS[kind], event_texts=False)
    plain = without.encode([history_of(data)]).embeddings
    assert torch.equal(plain, without.encode([history_of(data, "a bad cable", "x")]).embeddings)
    assert without._text_encoder.asked == []


def test_a_state_forgets_a_text_with_its_event(data):
    model = model_of(data, ENCODERS["streaming"])
    state = model.new_state()
    state.add(history_of(data, "loud", "good"))
    state.remove(history_of(data, "loud", "good").take([0]))
    left = model.encode([history_of(data, "loud", "good").take([1])]).embeddings
    assert state.prompt().allclose(left[0], atol=1e-5)


def test_windows_of_a_dataset_carry_the_texts_of_their_events(data):
    reviews = pl.Series(
        [f"{'abc'[row % 3]} {row}" if row % 2 else None for row in range(len(data.interactions))]
    )
    info = data.info.model_copy(update={"reviewed_interactions": len(reviews) // 2})
    told = with_event_texts(replace(data, info=info, reviews=reviews), Letters())
    users = np.arange(4)
    windows = draw_windows(told.interactions, users, 5, "recent", np.random.default_rng(0))
    for row, user in enumerate(users):
        last = told.interactions.offsets[user + 1]
        expected = Letters().fresh([text_read(reviews[at]) for at in range(last - 5, last)])
        assert np.array_equal(windows.texts.each[row], expected)
    kept = windows.where(np.arange(5)[None] > 2)
    assert np.array_equal(kept.texts.each, windows.texts.each[:, 3:])
    assert np.array_equal(windows[1:2].columns(1, 3).texts.each, windows.texts.each[1:2, 1:3])
    assert np.array_equal(windows.interactions().texts.each, windows.texts.each.reshape(20, -1))
    with pytest.raises(DataError, match=r"has no review texts, which model.event_texts needs; prepare it"):
        with_event_texts(data, Letters())


def test_a_dataset_tells_histories_what_was_written(data):
    reviews = pl.Series([f"text {row}" if row else None for row in range(len(data.interactions))])
    info = data.info.model_copy(update={"reviewed_interactions": len(reviews) - 1})
    told = replace(data, info=info, reviews=reviews).histories([data.user_ids[0]])[0]
    assert told.texts[:2] == ["", "text 1"]
    assert told.latest(1).texts == [told.texts[-1]]
    assert data.histories([data.user_ids[0]])[0].texts == ()


def test_texts_are_bounded_and_hold_no_control_characters():
    assert text_read("a\x00b\n\n c\ud800") == "a b c"
    assert len(text_read("x" * 10**6)) == MOST_TEXT
    letters = Letters()
    found = encoded_texts(["aa", None, " ", "aa", "b"], letters.fresh)
    assert letters.asked == ["aa", "b"]
    assert found.row.tolist() == [1, 0, 0, 1, 2]
    assert encoded_texts([None, ""], letters.fresh) is None


def test_columns_of_different_lengths_are_refused(data):
    model = model_of(data, ENCODERS["pooled"])
    wrong = replace(history_of(data), texts=["one"])
    with pytest.raises(DataError, match="2 item ids and 1 texts; give each interaction one"):
        model.encode([wrong])


def test_encoders_without_vectors_refuse_texts():
    with pytest.raises(ValueError, match="which a 'text' user encoder does not read; set event_texts=false"):
        ModelSettings(user_encoder=TextSettings(), event_texts=True)
