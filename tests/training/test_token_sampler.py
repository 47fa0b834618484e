"""Sampled softmax over the vocabulary: the sample, and the error of its loss."""

import pytest
import torch

from palate.model.generation import cross_entropy
from palate.model.prompt import IGNORED
from palate.model.token_sample import TokenSample, scoring
from palate.training import token_sampler
from palate.training.token_sampler import EXACT_EVERY, TokenSampler
from tiny_causal import causal_model, save_causal

VOCABULARY = 5_000


@pytest.fixture
def sampler(monkeypatch):
    monkeypatch.setattr(token_sampler, "LIKELY", 50)
    return TokenSampler(400, VOCABULARY, [7], seed=3)


def answers(generator, rows=6):
    target = torch.randint(VOCABULARY, (rows, 4), generator=generator)
    return [{"target": target, "target_mask": torch.ones_like(target)}]


def logits_like_a_models(generator):
    """A few tokens take most of the probability, everywhere the same ones."""
    logits = torch.randn(6, 4, VOCABULARY, generator=generator)
    logits[..., :40] += 6.0
    return logits


def test_the_first_step_and_every_fiftieth_score_all_tokens(sampler):
    rounds = answers(torch.Generator().manual_seed(0))
    assert sampler.draw(0, rounds) is sampler.draw(1, rounds) is None
    sampler.learn([logits_like_a_models(torch.Generator().manual_seed(1))], [rounds[0]["target"]])
    assert {*range(40)} <= {*sampler.likely}
    assert len(sampler.likely) == 50
    drawn = [sampler.draw(step, rounds) for step in range(2 * EXACT_EVERY)]
    assert [step for step, sample in enumerate(drawn) if sample is None] == [0, EXACT_EVERY]


def test_a_sample_holds_the_answers_the_likely_and_others_that_stand_for_the_rest(sampler):
    rounds = answers(torch.Generator().manual_seed(0))
    sampler.likely = [*range(50)]
    sample, again, later = (sampler.draw(step, rounds) for step in (5, 5, 6))
    assert torch.equal(sample.ids, again.ids)
    assert not torch.equal(sample.ids, later.ids)
    assert torch.equal(sample.ids, sample.ids.unique())
    kept = {7, *range(50), *rounds[0]["target"].flatten().tolist()}
    assert set(sample.ids[sample.offset == 0].tolist()) == kept
    stands_for = sample.offset.exp().sum()  # each kept one for itself
    assert float(stands_for) == pytest.approx(VOCABULARY, rel=1e-5)


def test_the_loss_and_its_gradient_are_those_of_all_tokens_on_average(sampler):
    generator = torch.Generator().manual_seed(4)
    rounds, logits = answers(generator), logits_like_a_models(generator)
    labels = rounds[0]["target"].clone()
    labels[0, 2:] = IGNORED
    sampler.learn([logits], [labels])

    def loss(sample):
        part = (logits if sample is None else logits[..., sample.ids]).clone().requires_grad_()
        value = cross_entropy(part, labels, sample)
        value.backward()
        whole = torch.zeros_like(logits)
        whole[..., slice(None) if sample is None else sample.ids] = part.grad
        return value.detach(), whole

    exact, gradient = loss(None)
    sampled = [loss(sampler.draw(step, rounds)) for step in range(1, EXACT_EVERY)]
    values = torch.stack([value for value, _ in sampled])
    assert float((values - exact).abs().max()) < 0.02
    assert float(values.mean()) == pytest.approx(float(exact), abs=0.003)
    likely = gradient[..., sampler.likely]
    mean = torch.stack([one for _, one in sampled]).mean(dim=0)
    torch.testing.assert_close(mean[..., sampler.likely], likely, atol=1e-4, rtol=0.02)
    assert float(mean.sum()) == pytest.approx(float(gradient.sum()), abs=1e-4)


def test_a_backbone_scores_the_sample_alone_and_then_all_again(tiny_data, tmp_path):
    model = causal_model(tiny_data, save_causal(tmp_path / "backbone", "gemma2"), train="frozen")
    embeddings = torch.randn(2, 5, 32)
    whole = model.backbone(inputs_embeds=embeddings).logits
    sample = TokenSample(torch.tensor([3, 17, 40]), torch.zeros(3))
    with scoring(model.backbone, sample):
        part = model.backbone(inputs_embeds=embeddings).logits
    torch.testing.assert_close(part, whole[..., sample.ids])
    assert torch.equal(model.backbone(inputs_embeds=embeddings).logits, whole)
    with pytest.raises(KeyError), scoring(model.backbone, sample):
        raise KeyError
    assert torch.equal(model.backbone(inputs_embeds=embeddings).logits, whole)


def test_choices_are_scored_by_their_probabilities_where_they_differ(sampler):
    generator = torch.Generator().manual_seed(5)
    rounds, logits = answers(generator), logits_like_a_models(generator)
    labels = rounds[0]["target"].clone()
    labels[1, 3] = IGNORED
    choice = torch.randint(VOCABULARY, (6, 2), generator=generator)
    chance = torch.tensor([[0.3, 0.7], [1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    choices = {"decides": torch.tensor([0, 1, 2, 0, 3, 0]), "choice": choice, "chance": chance}
    likely, decision, rest = logits.log_softmax(dim=-1), [], []
    for row, at in enumerate(choices["decides"].tolist()):
        decides = bool(chance[row].any())
        if decides:
            decision.append(-sum(chance[row, c] * likely[row, at, choice[row, c]] for c in range(2)))
        rest += [
            -likely[row, place, token]
            for place, token in enumerate(labels[row].tolist())
            if token != IGNORED and not (decides and place == at)
        ]
    expected = float(sum(decision) / 5 + sum(rest) / len(rest)) / 2
    assert float(cross_entropy(logits, labels, None, choices)) == pytest.approx(expected, rel=1e-5)
    sampler.learn([logits], [labels])
    sample = sampler.draw(1, [{**rounds[0], **choices}])
    assert set(choice.flatten().tolist()) <= set(sample.ids.tolist())
    sampled = cross_entropy(logits[..., sample.ids], labels, sample, choices)
    assert float(sampled) == pytest.approx(expected, abs=0.03)
    assert torch.equal(cross_entropy(logits, labels, None, {}), cross_entropy(logits, labels))
