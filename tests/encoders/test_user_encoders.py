"""User encoders: parameter counts, invariance to padding, and pooling."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from event_batches import EVENTS, SIZES, STREAMING_TINY, changed, cut, events

from palate.config.recipe import ResamplerSettings, StreamingSettings, UEMSettings
from palate.encoders.base import EncoderSizes
from palate.encoders.batch import EventBatch
from palate.encoders.kinds import build_user_encoder
from palate.encoders.ranking import SoftRank
from palate.encoders.streaming import FEATURES, StreamingEncoder
from palate.encoders.uem import UEM

UEM_TINY = UEMSettings(num_layers=2, num_heads=2, d_kv=8, d_ff=32)
RESAMPLER_TINY = ResamplerSettings(num_queries=8, d_model=16, num_layers=2, num_heads=2)


def features(encoder, batch):
    """What the queries have read of each window, [B, Q, FEATURES]."""
    return encoder._features(encoder.add(encoder.init_state(len(batch.item)), batch))


@pytest.fixture(params=[UEM_TINY, RESAMPLER_TINY, STREAMING_TINY], ids=["uem", "resampler", "streaming"])
def encoder(request):
    torch.manual_seed(0)
    return build_user_encoder(request.param, SIZES).eval()


@pytest.fixture
def streaming():
    torch.manual_seed(0)
    return StreamingEncoder(STREAMING_TINY, SIZES).eval()


def test_the_papers_module_has_65_million_parameters():
    with torch.device("meta"):
        uem = UEM(UEMSettings(), EncoderSizes(fields=2, vector=768, embedding=768, categories=18))
    assert sum(weight.numel() for weight in uem.parameters()) == pytest.approx(65e6, abs=1e6)


def test_the_sizes_of_the_paper_s_module_are_settings():
    with torch.device("meta"):
        small, large = (
            sum(w.numel() for w in UEM(UEM_TINY.model_copy(update=change), SIZES).parameters())
            for change in ({"num_layers": 1}, {"num_layers": 3})
        )
    # a layer: attention 4·48·16, gated feed-forward 3·48·32, two norms
    assert large - small == 2 * (4 * 48 * 16 + 3 * 48 * 32 + 2 * 48)


def test_the_user_prompt_has_one_vector_an_item_or_one_a_query():
    batch = events([7, 3])
    assert UEM(UEM_TINY, SIZES)(batch).embeddings.shape == (2, 7, 32)
    for lengths in ([7, 3], [1, 1], [400, 2]):
        assert build_user_encoder(RESAMPLER_TINY, SIZES)(events(lengths)).embeddings.shape == (2, 8, 32)
        prompt = StreamingEncoder(STREAMING_TINY, SIZES)(events(lengths))
        assert prompt.embeddings.shape == (2, 8, 32)
        assert prompt.mask.all()
        assert prompt.category_logits.shape == (2, 5, 2)


def test_the_mask_of_one_vector_an_item_is_the_windows():
    batch = events([7, 3])
    assert torch.equal(UEM(UEM_TINY, SIZES)(batch).mask, batch.mask)


@torch.no_grad()
def test_a_window_gives_the_same_alone_and_in_a_batch(encoder):
    batch = events([9, 1, 4], width=12)
    together = encoder(batch)
    for row in range(3):
        alone = encoder(cut(batch, row))
        length = int(alone.mask.sum())
        torch.testing.assert_close(
            together.embeddings[row, :length], alone.embeddings[0], atol=1e-5, rtol=1e-5
        )
        assert int(together.mask[row].sum()) == length


@torch.no_grad()
def test_what_stands_in_padding_is_not_read(encoder):
    batch = events([9, 2, 4], width=9)
    noise = torch.randint(30, batch.item.shape)
    other = changed(
        batch,
        item=torch.where(batch.mask, batch.item, noise),
        rating=torch.where(batch.mask, batch.rating, noise % 5),
    )
    first, second = encoder(batch), encoder(other)
    assert torch.equal(first.mask, second.mask)
    torch.testing.assert_close(
        first.embeddings[first.mask], second.embeddings[second.mask], atol=1e-6, rtol=0
    )


@torch.no_grad()
def test_ratings_and_items_are_read(encoder):
    batch = events([9])
    first = encoder(batch).embeddings
    for name, values in (("rating", 5), ("item", 30)):
        other = changed(batch, **{name: (getattr(batch, name) + 1) % values})
        assert not torch.allclose(first, encoder(other).embeddings, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [[0, 3], [0, 0], [0]])
def test_an_empty_window_gives_no_nan(encoder, lengths):
    prompt = encoder(events(lengths, width=4))
    assert torch.isfinite(prompt.embeddings).all()


@torch.no_grad()
def test_ten_thousand_interactions_are_pooled(streaming):
    prompt = streaming(events([10_000, 5]))
    assert torch.isfinite(prompt.embeddings).all()
    assert prompt.embeddings.shape == (2, 8, 32)


@torch.no_grad()
@pytest.mark.parametrize("settings", [RESAMPLER_TINY, STREAMING_TINY], ids=["resampler", "streaming"])
def test_latent_queries_do_not_look_at_the_order(settings):
    torch.manual_seed(0)
    encoder, batch = build_user_encoder(settings, SIZES).eval(), events([12])
    order = torch.randperm(12)
    other = changed(batch, item=batch.item[:, order], rating=batch.rating[:, order])
    torch.testing.assert_close(encoder(batch).embeddings, encoder(other).embeddings, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_window_twice_changes_the_counts_and_no_mean(streaming):
    batch = events([6])
    twice = changed(batch, **{name: getattr(batch, name).repeat(1, 2) for name in EVENTS})
    means, counts = [], []
    for one in (batch, twice):
        read = features(streaming, one)
        share, log_count = read[..., -2:-1], read[..., -1:]
        means.append(read[..., :-2] / share)  # without the null sink's pull
        counts.append(log_count.exp() - streaming.null.exp()[:, None])
    torch.testing.assert_close(means[0], means[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(2 * counts[0], counts[1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_sink_pulls_the_mean_of_few_interactions_more(streaming):
    batch = events([6])
    shares = []
    for times in (1, 4, 16):
        columns = {name: getattr(batch, name).repeat(1, times) for name in EVENTS}
        shares.append(features(streaming, changed(batch, **columns))[..., -2])
    assert (shares[0] < shares[1]).all()
    assert (shares[1] < shares[2]).all()
    assert (shares[2] < 1).all()


@pytest.fixture
def started(streaming):
    """Four categories in an order of their own, each on one direction of the item vectors."""
    weights = torch.zeros(4, 32)
    weights[torch.arange(4), torch.arange(4)] = 20.0
    names = torch.arange(4.0)[:, None].expand(-1, 32)
    streaming.start_from(torch.tensor([0, 1, 3, 4]), weights, torch.full((4,), -10.0), names)
    return streaming


def category_events(ratings):
    """Item i has only category i; ``ratings`` are (item, rating index)."""
    item, rating = torch.tensor(ratings).T[:, None]
    vectors = torch.eye(32)[:6].reshape(6, 2, 16)
    mask = torch.ones_like(item, dtype=torch.bool)
    time = torch.zeros(item.shape, dtype=torch.float64)
    return EventBatch(vectors, item, torch.randn(5, 16), torch.linspace(-1, 1, 5), rating, mask, time)


@torch.no_grad()
def test_category_queries_read_the_ratings_of_their_category(started):
    read = features(started, category_events([(0, 4), (0, 2), (1, 0), (2, 1), (2, 1), (2, 1)]))[0]
    mean = read[:, 0] / read[:, -2]
    torch.testing.assert_close(mean[:3], torch.tensor([0.5, -1.0, -0.5]), atol=1e-2, rtol=0)
    counts = read[:, -1].exp() - started.null.exp()
    torch.testing.assert_close(counts[:5], torch.tensor([2.0, 1.0, 3.0, 0.0, 6.0]), atol=0.05, rtol=0)
    assert mean[4] == pytest.approx((1 + 0 - 1 - 0.5 * 3) / 6, abs=1e-2)  # the query of all items


@torch.no_grad()
def test_category_queries_speak_the_names_of_their_categories(started):
    prompt = started(category_events([(0, 4)]))
    assert torch.equal(started.name[:4, 0], torch.arange(4.0))
    assert started.category_of_query.tolist() == [0, 1, 3, 4]
    # the view on categories 0, 1, 3 and 4 moves queries 0 to 3, nothing but them
    moved = started.liking(prompt.category_logits[:, [0, 1, 3, 4]])
    started.liking.weight.zero_()
    still = started(category_events([(0, 4)])).embeddings
    torch.testing.assert_close(prompt.embeddings[:, :4] - still[:, :4], moved, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prompt.embeddings[:, 4:], still[:, 4:])


@pytest.mark.parametrize("queries", [2, 3, 5, 6, 24])
def test_any_number_of_queries_starts_from_the_catalogue_and_is_loaded_again(tiny_data, tmp_path, queries):
    from palate.config.recipe import ModelSettings, Recipe, TaskSettings
    from palate.model.build import build_model
    from palate.model.model import PersonalizedModel
    from palate.tasks import load_task
    from tiny import TINY_T5, made_up_table

    settings = StreamingSettings(num_queries=queries, d_model=16, num_layers=1, num_heads=2)
    recipe = Recipe(model=ModelSettings(backbone=TINY_T5, user_encoder=settings, task_prompt=2))
    task = load_task(TaskSettings(), tiny_data.info)
    model = build_model(recipe, tiny_data, task, made_up_table(tiny_data)).eval()
    model.save_pretrained(tmp_path / "model")
    loaded = PersonalizedModel.from_pretrained(tmp_path / "model")
    histories = tiny_data.histories(tiny_data.user_ids[:3])
    assert torch.equal(loaded.encode(histories).embeddings, model.encode(histories).embeddings)
    assert loaded.generate(histories) == model.generate(histories)


def test_the_most_frequent_categories_get_the_queries(tiny_data):
    from palate.config.recipe import ModelSettings, Recipe, TaskSettings
    from palate.model.build import build_model
    from palate.tasks import load_task
    from tiny import TINY_T5, made_up_table

    settings = StreamingSettings(num_queries=3, d_model=16, num_layers=0, num_heads=2)
    recipe = Recipe(model=ModelSettings(backbone=TINY_T5, user_encoder=settings, task_prompt=2))
    task = load_task(TaskSettings(), tiny_data.info)
    model = build_model(recipe, tiny_data, task, made_up_table(tiny_data))
    most = np.sort(np.argsort(-tiny_data.category_matrix.sum(axis=0), kind="stable")[:2])
    assert model.user_encoder.category_of_query.tolist() == most.tolist()


def test_queries_are_ranked_by_how_their_items_were_rated():
    torch.manual_seed(0)
    features = torch.randn(3, 8, FEATURES) * 1e-3
    features[..., 0] = torch.stack([torch.randperm(8) / 4 - 1 for _ in range(3)])
    rank, high, counts = SoftRank(8, FEATURES, 16).places(features)
    by_rating = features[..., 0].argsort(dim=1)
    for ruler in range(rank.shape[-1]):
        assert rank[..., ruler].argsort(dim=1, descending=True).equal(by_rating)
        assert (high[..., ruler].gather(1, by_rating).diff(dim=1) >= 0).all()
    sharpest = (rank / counts)[..., -1].gather(1, by_rating).flip(1)  # the best rated first
    assert torch.allclose(sharpest, torch.arange(8.0).expand(3, -1), atol=0.1)


def made_up_catalogue(ratings=5):
    """Items that have most in common, two categories that show in a linear part, and ratings close to each other."""
    torch.manual_seed(0)
    fields, size = SIZES.fields, SIZES.vector
    has = torch.rand(200, 2) < 0.3
    items = 1.0 + 0.1 * torch.randn(200, fields * size)
    items[:, :2] += 0.3 * has
    numbers = torch.linspace(-1, 1, ratings)
    rating_vectors = torch.randn(size) + 0.05 * numbers[:, None] * torch.randn(size)
    catalogue = SimpleNamespace(
        item_vectors=items.view(200, fields, size), rating_vectors=rating_vectors, rating_numbers=numbers
    )
    probe = torch.zeros(2, fields * size)
    probe[0, 0] = probe[1, 1] = 1.0
    return catalogue, has, probe


def test_a_narrowed_stream_starts_from_the_categories_and_the_rating():
    catalogue, has, probe = made_up_catalogue()
    encoder = UEM(UEM_TINY.model_copy(update={"d_model": 24}), SIZES)
    encoder.start_from(catalogue, probe)
    stream = encoder.narrow(
        torch.cat([catalogue.item_vectors.flatten(1), catalogue.rating_vectors[torch.arange(200) % 5]], dim=1)
    )
    for category in (0, 1):
        channel, truth = stream[:, category], has[:, category]
        assert channel[truth].mean() > channel[~truth].mean() + 1
    by_rating = [stream[torch.arange(200) % 5 == rating, 2].mean().item() for rating in range(5)]
    assert np.diff(by_rating) == pytest.approx([3.0] * 4, rel=1e-2)  # 6 times the numbers' steps of a half
    assert stream[:, 3:].std(dim=0).mean().item() == pytest.approx(1.0, abs=0.3)
    assert encoder(events([7, 3])).embeddings.shape == (2, 7, 32)


def test_a_stream_of_full_width_is_left_as_it_is():
    encoder = UEM(UEM_TINY, SIZES)
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    encoder.start_from(*made_up_catalogue()[::2])
    assert all(torch.equal(before[name], weight) for name, weight in encoder.state_dict().items())
