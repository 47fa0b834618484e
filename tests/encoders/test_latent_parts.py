"""Latent sums in user states: exact as the streaming encoder's, stored separately, a no-op until trained."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.config.recipe import StreamingSettings, UniversalSettings
from palate.encoders.catalogue_free import UniversalEncoder
from palate.encoders.state import UserState
from palate.errors import DataError, MismatchError
from palate.items.categories import build_category_table
from palate.model.config import PersonalizedSettings
from palate.model.model import PersonalizedModel
from palate.schema import History
from small_dataset import small_dataset
from tiny import made_up_table, tiny_backbone, unbound_model

LATENT = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)
DATA = small_dataset()
NAMES = ("counts", "recent", "latent")


def model_with(latent=LATENT, seed=0, loud=True):
    """A model over the data, whose latent queries have something to say."""
    plain = unbound_model().bind(DATA)
    backbone = tiny_backbone()
    torch.manual_seed(seed)
    encoder = UniversalSettings(d_model=16, num_layers=1, num_heads=2, latent=latent)
    settings = plain.settings.model_copy(update={"user_encoder": encoder})
    vectors = None if latent is None else made_up_table(DATA)
    table = build_category_table(DATA, vectors)
    model = PersonalizedModel(settings, backbone, table, plain.summary).eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    if loud and latent is not None:
        with torch.no_grad():
            model.user_encoder.latent.categories.weight.normal_(0, 0.5)
    return model


MODEL, PLAIN = model_with(), model_with(None)
(HISTORY,) = DATA.histories([DATA.user_ids[int(DATA.interactions.lengths.argmax())]])
COUNT = min(len(HISTORY), 30)


def state_of(model, *parts):
    state = model.new_state()
    for part in parts:
        state.add(part)
    return state


def assert_the_same(state, other):
    mine, its = state._state, other._state
    for name in ("count", "total", "squares", "length", "whole"):
        assert torch.equal(getattr(mine.counts, name), getattr(its.counts, name))
    encoder = MODEL.user_encoder.latent
    torch.testing.assert_close(
        encoder._features(mine.latent), encoder._features(its.latent), rtol=1e-4, atol=1e-4
    )
    assert torch.equal(mine.latent.count, its.latent.count)


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(COUNT)), st.integers(1, COUNT - 1))
def test_the_parts_of_a_history_in_any_order_are_the_whole(order, cut):
    first, second = HISTORY.take(order[:cut]), HISTORY.take(order[cut:])
    whole = state_of(MODEL, HISTORY.take(range(COUNT)))
    assert_the_same(state_of(MODEL, second, first), whole)
    one, other = state_of(MODEL, first), state_of(MODEL, second)
    one.merge(other)
    assert_the_same(one, whole)


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(COUNT)), st.integers(1, COUNT - 1))
def test_what_is_removed_was_never_there(order, cut):
    left, gone = HISTORY.take(order[:cut]), HISTORY.take(order[cut:])
    state = state_of(MODEL, HISTORY.take(range(COUNT)))
    state.remove(gone, remaining=left)
    assert_the_same(state, state_of(MODEL, left))


def test_they_change_nothing_until_they_are_trained():
    silent = model_with(loud=False)
    histories = DATA.histories(DATA.user_ids[:4])
    ours, theirs = silent.encode(histories), PLAIN.encode(histories)
    assert torch.equal(ours.category_logits, theirs.category_logits)
    assert torch.equal(ours.named, theirs.named)
    loud = MODEL.encode(histories).category_logits
    assert (loud - theirs.category_logits).abs().max() > 0.01


def test_they_are_corrected_by_what_a_training_sees():
    model = model_with(loud=False).train()
    events = model.events(DATA.histories(DATA.user_ids[:8]))
    user = model.user_encoder(events)
    labels = torch.ones(8, len(DATA.categories))
    model.category_loss(user, labels, 1 - labels).backward()
    latent = model.user_encoder.latent
    assert latent.categories.weight.grad.abs().max() > 0
    trained = {id(weight) for weight in model.user_encoder.trained_on_data()}
    assert {id(weight) for weight in latent.parameters()} < trained


def test_a_window_that_is_a_whole_history_is_not_corrected():
    events = MODEL.events([HISTORY])
    known = replace(events, complete=torch.tensor([True]))
    plain = PLAIN.user_encoder(replace(PLAIN.events([HISTORY]), complete=torch.tensor([True])))
    assert torch.equal(MODEL.user_encoder(known).category_logits, plain.category_logits)


def test_a_state_comes_back_with_its_latent_sums():
    state = state_of(MODEL, HISTORY)
    data = state.to_bytes()
    again = MODEL.load_state(data)
    for column in fields(UserState):
        assert torch.equal(
            getattr(again._state.latent, column.name), getattr(state._state.latent, column.name)
        )
    assert torch.equal(again.prompt(), state.prompt())
    assert len(data) > len(state_of(PLAIN, HISTORY).to_bytes())


def test_a_state_of_other_parts_or_weights_is_refused():
    rebuild = "rebuild it from the stored events"
    with pytest.raises(DataError, match=rf"the parts are .*'latent': 1.*{rebuild}"):
        PLAIN.load_state(state_of(MODEL, HISTORY).to_bytes())
    with pytest.raises(DataError, match=rf"the parts are .*expected .*'latent': 1.*{rebuild}"):
        MODEL.load_state(state_of(PLAIN, HISTORY).to_bytes())
    with pytest.raises(DataError, match=rf"other weights of the user encoder; {rebuild}"):
        model_with(seed=5).load_state(state_of(MODEL, HISTORY).to_bytes())


def test_a_model_with_latent_queries_is_saved_with_its_vectors_and_of_one_catalogue(tmp_path):
    MODEL.save_pretrained(tmp_path / "model")
    again = PersonalizedModel.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again.encode([HISTORY]).embeddings, MODEL.encode([HISTORY]).embeddings)
    with pytest.raises(
        MismatchError, match=r"latent queries .* are of one catalogue, and it cannot be bound"
    ):
        again.bind(DATA)
    without = build_category_table(DATA)
    with pytest.raises(
        MismatchError, match=r"by their categories and item vectors of 'made-up', and the new"
    ):
        MODEL.with_table(without)


def test_decisions_are_calibrated_on_the_corrected_log_odds():
    cutoffs = [one.summarised(DATA).decisions for one in (PLAIN, MODEL)]
    assert not np.allclose(cutoffs[0].cutoff, cutoffs[1].cutoff)


def test_the_settings_of_a_model_without_them_do_not_change():
    settings = PersonalizedSettings.model_validate_json(PLAIN.settings.model_dump_json())
    assert settings.user_encoder.latent is None
    assert isinstance(PLAIN.user_encoder, UniversalEncoder)
    assert not any("latent" in name for name in PLAIN.state_dict())
    nobody = History("nobody", [], [], [])
    assert MODEL.encode([nobody]).category_logits.isfinite().all()
