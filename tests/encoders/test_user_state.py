"""User states: adding, removing and merging events equals encoding one batch."""

import re
from dataclasses import fields

import pytest
import torch
from event_batches import EVENTS, SIZES, STREAMING_TINY, changed, events, part
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from palate.config.recipe import StreamingSettings
from palate.encoders.base import EncoderSizes
from palate.encoders.state import UserState
from palate.encoders.streaming import StreamingEncoder
from palate.errors import DataError, MismatchError

STATE = [column.name for column in fields(UserState)]


def make_encoder(recency=False, stretch=1.0, seed=0):
    """An encoder whose keys' logits are ``stretch`` times as far apart."""
    torch.manual_seed(seed)
    encoder = StreamingEncoder(STREAMING_TINY.model_copy(update={"recency": recency}), SIZES).eval()
    with torch.no_grad():
        encoder.reader.key.weight.mul_(stretch)
    return encoder


def assert_same_prompt(encoder, state, batch):
    """The state's prompt is that of all its events in one batch, within 1e-4 of its size."""
    expected = encoder(batch).embeddings.detach()
    difference = (encoder.prompt(state) - expected).abs().max()
    assert float(difference) <= 1e-4 * float(expected.abs().max())
    assert_same_features(encoder, state, batch)


def assert_same_features(encoder, state, batch):
    expected = encoder._features(encoder.reader(batch)).detach()
    torch.testing.assert_close(encoder._features(state).detach(), expected, rtol=1e-4, atol=1e-4)


def added(encoder, batch, parts):
    state = encoder.init_state(len(batch.item))
    for chosen in parts:
        state = encoder.add(state, part(batch, torch.tensor(chosen)))
    return state


encoders = st.builds(make_encoder, st.booleans(), st.sampled_from([0.1, 1.0, 1e2, 1e4]))


@st.composite
def splits(draw, size):
    """The numbers below ``size`` in any order, in parts of any size."""
    order = draw(st.permutations(range(size)))
    cuts = sorted(draw(st.sets(st.integers(1, size - 1))))
    return [order[start:end] for start, end in zip([0, *cuts], [*cuts, size], strict=True)]


@settings(deadline=None, max_examples=40)
@given(encoder=encoders, parts=splits(12), seed=st.integers(0, 99))
def test_any_order_and_any_split_is_the_batch(encoder, parts, seed):
    batch = events([12, 5, 1], width=12, seed=seed)
    assert_same_prompt(encoder, added(encoder, batch, parts), batch)


@settings(deadline=None, max_examples=40)
@given(encoder=encoders, parts=splits(9), seed=st.integers(0, 99))
def test_merging_is_associative_and_commutative(encoder, parts, seed):
    batch = events([9, 4], width=9, seed=seed)
    states = [encoder.reader(part(batch, torch.tensor(chosen))) for chosen in parts]
    forward = backward = encoder.init_state(2)
    for state in states:
        forward = encoder.merge(forward, state)
    for state in states:
        backward = encoder.merge(state, backward)
    assert_same_prompt(encoder, forward, batch)
    for name in STATE:
        torch.testing.assert_close(getattr(forward, name), getattr(backward, name), rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(encoder=encoders, steps=st.lists(st.integers(0, 9), max_size=30), seed=st.integers(0, 99))
def test_any_sequence_of_adding_and_removing_is_the_batch_of_what_is_left(encoder, steps, seed):
    batch = events([10], seed=seed)
    state, held = encoder.init_state(1), []
    for one in steps:
        event = part(batch, torch.tensor([one]))
        if one in held:
            held.remove(one)
            left = part(batch, torch.tensor(held, dtype=torch.int64))
            state = encoder.remove(state, event, lambda rows, left=left: left)
        else:
            held.append(one)
            state = encoder.add(state, event)
    assert int(state.count) == len(held)
    if held:
        assert_same_prompt(encoder, state, part(batch, torch.tensor(held)))
    else:
        for name in STATE:
            assert torch.equal(getattr(state, name), getattr(encoder.init_state(1), name))


@pytest.mark.parametrize("recency", [False, True])
def test_a_hundred_thousand_events_one_by_one_in_chunks_and_mostly_out_again(recency):
    encoder = make_encoder(recency)
    batch = events([100_000])
    whole = encoder.reader(batch)
    state = encoder.init_state(1)
    for first in range(500):
        state = encoder.add(state, part(batch, slice(first, first + 1)))
    for first in range(500, 100_000, 995):
        state = encoder.add(state, part(batch, slice(first, first + 995)))
    assert int(state.count) == 100_000
    assert_same_prompt(encoder, state, batch)
    torch.testing.assert_close(
        state.sums, encoder.merge(whole, encoder.init_state(1)).sums, rtol=1e-4, atol=1e-2
    )
    kept = part(batch, slice(0, 3_000))
    for first in range(3_000, 100_000, 1_000):
        state = encoder.remove(
            state, part(batch, slice(first, first + 1_000)), _all_but(batch, 3_000, first + 1_000)
        )
    assert_same_prompt(encoder, state, kept)


def _all_but(batch, start, end):
    keep = torch.cat([torch.arange(start), torch.arange(end, batch.item.shape[1])])
    return lambda rows: part(batch, keep)


def test_a_state_is_the_sum_in_double_precision():
    encoder = make_encoder()
    batch = events([20_000])
    state = encoder.init_state(1)
    for first in range(0, 20_000, 100):
        state = encoder.add(state, part(batch, slice(first, first + 100)))
    logits = torch.nn.functional.logsigmoid(encoder.reader.key(batch.item_vectors.flatten(1)))[
        batch.item[0]
    ].double()
    expected = logits.exp().sum(dim=0)
    weight = (state.sums[0, :, 0].double() + state.rest[0, :, 0]) * 2.0 ** state.exponent[0].double()
    torch.testing.assert_close(weight, expected.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("recency", [False, True])
def test_no_history_and_one_event(recency):
    encoder = make_encoder(recency)
    nothing = encoder.init_state(2)
    assert torch.isfinite(encoder.prompt(nothing)).all()
    assert_same_prompt(encoder, nothing, events([0, 0], width=3))
    one = events([1, 1])
    assert_same_prompt(encoder, encoder.add(nothing, one), one)


def test_padding_adds_nothing():
    encoder, batch = make_encoder(), events([3, 0], width=6)
    state = encoder.add(encoder.init_state(2), batch)
    again = encoder.add(state, changed(batch, mask=torch.zeros_like(batch.mask)))
    for name in STATE:
        assert torch.equal(getattr(again, name), getattr(state, name))


@pytest.fixture
def dominated():
    """An encoder and two users' events, of which the first user's last outweighs all others in a query."""
    encoder = make_encoder()
    with torch.no_grad():
        encoder.reader.key.weight[0] = torch.eye(32)[0] * 20
        encoder.reader.key.bias[0] = -15.0
        encoder.null[0] = -20.0
    batch = events([8, 8])
    vectors = batch.item_vectors.clone()
    vectors[:, 0, 0] = 0.0
    vectors[29, 0, 0] = 2.0
    item = batch.item.clamp(max=28)
    item[0, 7] = 29
    return encoder, changed(batch, item_vectors=vectors, item=item)


def test_a_dominating_event_that_leaves_is_detected_and_its_users_state_built_again(dominated):
    encoder, batch = dominated
    state = encoder.add(encoder.init_state(2), batch)
    last, left = part(batch, slice(7, 8)), part(batch, slice(0, 7))
    with pytest.raises(MismatchError, match="rounding errors"):
        encoder.remove(state, last)
    asked = []

    def remaining(rows):
        asked.extend(rows.tolist())
        return changed(left, **{n: getattr(left, n)[rows] for n in EVENTS})

    assert_same_prompt(encoder, encoder.remove(state, last, remaining), left)
    assert asked == [0]


def test_with_recency_the_newest_event_is_what_time_is_counted_from():
    encoder, batch = make_encoder(recency=True), events([6])
    batch = changed(batch, time=batch.time.sort(dim=1).values)
    state = encoder.add(encoder.init_state(1), batch)
    left = part(batch, slice(0, 5))
    with pytest.raises(MismatchError, match="remaining="):
        encoder.remove(state, part(batch, slice(5, 6)))
    assert_same_prompt(encoder, encoder.remove(state, part(batch, slice(5, 6)), lambda rows: left), left)


def test_recency_forgets_old_events():
    encoder = make_encoder(recency=True)
    batch = events([2])
    old, new = (changed(batch, time=torch.tensor([[first, 20_000.0]])) for first in (0.0, 20_000.0))
    alone = part(old, slice(1, 2))
    assert_same_prompt(encoder, encoder.reader(old), alone)
    assert not torch.allclose(encoder(new).embeddings, encoder(alone).embeddings, atol=1e-3)


def test_more_events_than_were_read_cannot_leave():
    encoder = make_encoder()
    with pytest.raises(MismatchError, match="more events to remove than"):
        encoder.remove(encoder.add(encoder.init_state(1), events([2])), events([3]))


@pytest.mark.parametrize("recency", [False, True])
@pytest.mark.parametrize("stretch", [1.0, 1e4])
def test_gradients_are_finite_whatever_is_missing(recency, stretch):
    encoder = make_encoder(recency, stretch)
    prompt = encoder(events([7, 2, 0], width=9))
    (prompt.embeddings.square().sum() + prompt.category_logits.square().sum()).backward()
    assert all(
        torch.isfinite(weight.grad).all() for weight in encoder.parameters() if weight.grad is not None
    )
    assert bool(encoder.reader.key.weight.grad.any()) == (stretch == 1.0)  # sure answers are not moved


def test_sums_stay_in_float32():
    encoder, batch = make_encoder(), events([30])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encoder.reader(batch)
    assert torch.equal(mixed.sums, encoder.reader(batch).sums)
    assert encoder.to(torch.bfloat16).reader(batch).sums.dtype == torch.float32


def test_rescaling_by_powers_of_two_is_exact():
    shift = torch.arange(-126, 1)
    assert torch.equal(torch.ldexp(torch.ones(127), shift).double(), 2.0 ** shift.double())


def test_saved_states_come_back_and_are_small(tmp_path):
    encoder = make_encoder()
    state = encoder.add(encoder.init_state(3), events([5, 0, 9], width=9))
    encoder.save_state(state, tmp_path / "states.safetensors")
    loaded = encoder.load_state(tmp_path / "states.safetensors")
    for name in STATE:
        assert torch.equal(getattr(loaded, name), getattr(state, name))
    large = StreamingEncoder(
        StreamingSettings(), EncoderSizes(fields=2, vector=384, embedding=128, categories=18)
    )
    large.save_state(large.init_state(1), tmp_path / "one.safetensors")
    assert (tmp_path / "one.safetensors").stat().st_size <= 64 * 1024


def test_another_encoders_states_are_refused(tmp_path):
    path = tmp_path / "states.safetensors"
    make_encoder(seed=1).save_state(make_encoder(seed=1).init_state(1), path)
    with pytest.raises(DataError, match="computed with other weights of the user encoder"):
        make_encoder(seed=0).load_state(path)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("sums", torch.zeros(1, 8, 3), "sums is not torch.float32 [B, 8, 50]"),
        ("exponent", torch.zeros(1, 8), "exponent is not torch.int32 [B, 8]"),
        ("rest", torch.full((1, 8, 50), torch.nan), "the columns are inconsistent"),
        ("count", torch.zeros(2, dtype=torch.int64), "the columns are inconsistent"),
        ("more", torch.zeros(1), "the columns are inconsistent"),
    ],
)
def test_damaged_states_are_refused(tmp_path, column, value, expected):
    encoder, path = make_encoder(), tmp_path / "states.safetensors"
    encoder.save_state(encoder.init_state(1), path)
    made = {"format": "palate-user-state-1", "reader": encoder.reader.identity()}
    save_file({**load_file(path), column: value}, path, metadata=made)
    with pytest.raises(DataError, match=re.escape(expected)):
        encoder.load_state(path)


def test_a_cut_file_and_no_file_are_refused(tmp_path):
    encoder, path = make_encoder(), tmp_path / "states.safetensors"
    encoder.save_state(encoder.init_state(1), path)
    path.write_bytes(path.read_bytes()[:100])
    for place in (path, tmp_path / "nowhere.safetensors"):
        with pytest.raises(DataError, match="not a user state"):
            encoder.load_state(place)
