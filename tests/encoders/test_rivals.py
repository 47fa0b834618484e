"""The rivals' user encoders, as in their papers and with palate's additions."""

import numpy as np
import pytest
import torch
from event_batches import EVENTS, SIZES, changed, cut, events

from palate.config.recipe import (
    EquippedSettings,
    MLPSettings,
    PooledSettings,
    ResamplerSettings,
    UEMSettings,
)
from palate.encoders.base import EncoderSizes
from palate.encoders.batch import CategoryEvents, VectorCatalogue
from palate.encoders.kinds import build_user_encoder
from palate.items.categories import MEMBER
from tiny import made_up_table

INNER = {
    "uem": UEMSettings(num_layers=1, num_heads=2, d_kv=8, d_ff=32, dropout=0.0),
    "resampler": ResamplerSettings(num_queries=4, d_model=16, num_layers=1, num_heads=2),
    "mlp": MLPSettings(d_ff=24),
    "pooled": PooledSettings(d_ff=24),
}
LENGTHS = {"uem": None, "resampler": 4, "mlp": None, "pooled": 1}
"""Vectors of a user prompt; None for one an item."""


def built(settings, seed=0):
    torch.manual_seed(seed)
    return build_user_encoder(settings, SIZES).eval()


def with_categories(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    has = torch.rand(len(batch.item_vectors), SIZES.categories, generator=generator) < 0.4
    return CategoryEvents(
        membership=has.to(torch.int16) * MEMBER,
        item=batch.item,
        index=batch.item,
        rating=batch.rating,
        mask=batch.mask,
        time=batch.time.long(),
        complete=None,
        event=torch.zeros_like(batch.item),
        vectors=batch,
    )


@pytest.fixture(params=INNER)
def kind(request):
    return request.param


@pytest.fixture(params=["plain", "equipped"])
def encoder(request, kind):
    if request.param == "plain":
        return built(INNER[kind])
    encode = built(EquippedSettings(encoder=INNER[kind], d_model=12, named=2))
    return lambda batch: encode(with_categories(batch))


def test_padding_changes_nothing_and_no_user_another(encoder):
    batch = events([5, 2, 9], width=11)
    whole = encoder(batch)
    for row in range(3):
        alone = encoder(cut(batch, row))
        torch.testing.assert_close(whole.split()[row], alone.split()[0], atol=1e-5, rtol=1e-4)
        if whole.category_logits is not None:
            torch.testing.assert_close(
                whole.category_logits[row], alone.category_logits[0], atol=1e-5, rtol=1e-4
            )
        assert not whole.mask[row].int().diff().gt(0).any()  # padding at the right end


def test_the_rating_and_the_items_change_what_is_said(encoder):
    batch = events([6, 6])
    first = encoder(batch).embeddings
    other_rating = encoder(changed(batch, rating=(batch.rating + 1) % 5)).embeddings
    other_item = encoder(changed(batch, item=(batch.item + 1) % 30)).embeddings
    assert not torch.allclose(first, other_rating)
    assert not torch.allclose(first, other_item)


def test_an_empty_history_can_be_read(encoder):
    user = encoder(events([0, 3]))
    assert torch.isfinite(user.embeddings).all()
    assert user.category_logits is None or torch.isfinite(user.category_logits).all()


def test_the_length_of_a_user_prompt_is_what_the_settings_say(kind):
    batch = events([7, 3])
    settings = EquippedSettings(encoder=INNER[kind], d_model=12, named=2)
    own, equipped = built(INNER[kind])(batch), built(settings)(with_categories(batch))
    expected = LENGTHS[kind] or 7
    assert own.embeddings.shape == (2, expected, SIZES.embedding)
    assert equipped.embeddings.shape == (2, 4 + expected, SIZES.embedding)
    assert settings.vectors == (None if LENGTHS[kind] is None else 4 + expected)
    assert own.category_logits is None
    assert equipped.category_logits.shape == (2, SIZES.categories, 2)


def test_each_advantage_can_be_left_out(kind):
    batch = with_categories(events([4]))
    bare = EquippedSettings(encoder=INNER[kind], d_model=12, categories=False, view=False, named=0)
    user = built(bare)(batch)
    assert user.category_logits is None
    assert user.embeddings.shape[1] == (LENGTHS[kind] or 4)
    other = with_categories(batch.vectors, seed=5)
    torch.testing.assert_close(built(bare)(other).embeddings, user.embeddings)
    exact = bare.model_copy(update={"categories": True})
    assert not torch.allclose(built(exact)(other).embeddings, built(exact)(batch).embeddings)
    with pytest.raises(ValueError, match="needs view=true"):
        EquippedSettings(view=False, named=1)


def test_the_single_vector_is_a_mean_and_knows_no_order():
    encoder, batch = built(INNER["pooled"]), events([6])
    turned = changed(batch, **{name: getattr(batch, name).flip(1) for name in EVENTS})
    torch.testing.assert_close(encoder(batch).embeddings, encoder(turned).embeddings)
    twice = changed(batch, **{name: getattr(batch, name).repeat(1, 2) for name in EVENTS})
    torch.testing.assert_close(encoder(batch).embeddings, encoder(twice).embeddings)


def test_the_mlp_adapter_reads_each_item_by_itself():
    encoder, batch = built(INNER["mlp"]), events([6])
    alone = [
        encoder(changed(batch, **{name: getattr(batch, name)[:, [at]] for name in EVENTS})).embeddings
        for at in range(6)
    ]
    torch.testing.assert_close(encoder(batch).embeddings, torch.cat(alone, dim=1))


@pytest.mark.parametrize("exact", [True, False])
def test_standardised_inputs_start_with_categories_and_the_rating(tiny_data, exact):
    table = VectorCatalogue(made_up_table(tiny_data))
    sizes = EncoderSizes(2, 16, 32, len(tiny_data.categories))
    settings = EquippedSettings(encoder=INNER["mlp"], d_model=12, categories=exact, named=0)
    encoder = build_user_encoder(settings, sizes)
    categories = torch.from_numpy(tiny_data.category_matrix.astype(np.float32))
    items = table.item_vectors.flatten(1)
    centred = categories - categories.mean(dim=0)
    probe = torch.linalg.lstsq(items - items.mean(dim=0), centred).solution.T  # [C, F·S]
    encoder.start_from(table, probe, torch.arange(len(tiny_data.categories)))
    read = torch.cat([items, categories], dim=1) if exact else items
    found = encoder.item(read)
    for category in range(len(tiny_data.categories)):
        likeness = np.corrcoef(found[:, category].detach(), categories[:, category])[0, 1]
        assert likeness > (0.999 if exact else 0.7)
    others = found[:, len(tiny_data.categories) + 1 :].detach()
    assert float(others.mean(dim=0).abs().max()) < 1e-4
    assert 0.3 < float(others.std(dim=0).mean()) < 3
    numbers = torch.cat([table.rating_vectors, table.rating_numbers[:, None]], dim=1)
    told = encoder.rating(numbers)[:, len(tiny_data.categories)].detach()
    torch.testing.assert_close(told, 6 * table.rating_numbers, atol=1e-4, rtol=0)
