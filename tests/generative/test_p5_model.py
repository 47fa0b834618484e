"""P5 and POD: item scores, beam search, prompt embeddings, training and ranking."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import palate
from palate.config.recipe import Recipe
from palate.data.protocols import make_split
from palate.errors import DataError, MismatchError, RecipeError, TrainingError
from palate.generative.files import load_generative
from palate.generative.p5 import IdLanguageModel
from palate.generative.p5_training import train_generative
from palate.generative.staged_training import CHECKPOINT, StagedTraining
from palate.model.prompt import mask_labels
from sequence_data import sequence_dataset

ITEMS = 30


def rings(users=40, length=8, seed=0):
    """Everybody goes on by one, on a ring of 30 items, from somewhere."""
    rng = np.random.default_rng(seed)
    return [[(start + step) % ITEMS for step in range(length)] for start in rng.integers(ITEMS, size=users)]


def recipe(folder, steps=2, kind="p5", **settings):
    return Recipe(
        data={"path": folder, "protocol": "leave-last-out"},
        model={
            "backbone": {
                "kind": "random-t5",
                "d_model": 32,
                "d_ff": 64,
                "num_layers": 1,
                "num_heads": 2,
                "vocab_size": 300,
            }
        },
        generative={
            "kind": kind,
            "families": {"sequential": 1.0, "direct": 1.0},
            "candidates": 4,
            **settings,
        },
        train={
            "max_steps": steps,
            "per_device_train_batch_size": 16,
            "eval_steps": max(steps // 2, 1),
            "eval_users": 20,
            "learning_rate": 3e-3,
            "threads": 1,
        },
    )


@pytest.fixture(scope="module")
def data():
    return sequence_dataset(rings(), items=ITEMS)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """One barely trained run for each kind."""
    place = tmp_path_factory.mktemp("generative")
    return {
        kind: train_generative(recipe(place, kind=kind, ids=ids), place / kind, dataset=data)
        for kind, ids in (("p5", "sequential"), ("pod", "collaborative"))
    }


PROMPTS = ["user_01 took item_04 item_05", "item_09 is followed by which one , user_30 ?"]


@pytest.mark.parametrize("kind", ["p5", "pod"])
def test_scores_of_items_are_their_log_probabilities_with_forced_tokens(runs, kind):
    found = load_generative(runs[kind])
    model, names = found.model, found.facts.item_names
    scores = model.item_scores(PROMPTS, "sequential")
    prompt = model.prompts(PROMPTS, "sequential")
    assert scores.shape == (2, ITEMS)
    for item in (0, 7, 29):
        tokens = torch.tensor([model.tokenizer(names[item], add_special_tokens=False)["input_ids"]] * 2)
        with torch.no_grad():
            logits = model.model(
                inputs_embeds=prompt.embeddings,
                attention_mask=prompt.mask,
                labels=mask_labels(tokens, torch.ones_like(tokens)),
            ).logits
        forced = logits.log_softmax(-1).gather(2, tokens[..., None]).sum((1, 2))
        assert scores[:, item] == pytest.approx(forced.numpy(), abs=1e-4)


@pytest.mark.parametrize("kind", ["p5", "pod"])
def test_beams_as_wide_as_the_catalogue_find_what_exhaustive_scores_find(runs, kind):
    model = load_generative(runs[kind]).model
    scores = model.item_scores(PROMPTS, "direct")
    items, found = model.beam_items(PROMPTS, "direct", beams=ITEMS)
    assert items.tolist() == (-scores).argsort(axis=1, kind="stable").tolist()
    assert found == pytest.approx(-np.sort(-scores, axis=1), abs=1e-4)
    few, _ = model.beam_items(PROMPTS, "direct", beams=3)
    assert few.shape == (2, 3)


def test_a_prompt_is_the_same_alone_and_beside_a_longer_one(runs):
    model = load_generative(runs["pod"]).model
    alone, both = model.item_scores(PROMPTS[:1], "direct"), model.item_scores(PROMPTS, "direct")
    assert both[0] == pytest.approx(alone[0], abs=1e-4)


def test_embeddings_are_those_of_tokens_and_of_whole_words_after_the_familys_vectors(runs):
    model = load_generative(runs["pod"]).model
    prompt = model.prompts(["user_01 took"], "direct")
    tokens = model.tokenizer("user_01 took", return_tensors="pt", return_offsets_mapping=True)
    words = {"user_": 1, "01": 1, "Ġtook": 2}
    pieces = model.tokenizer.convert_ids_to_tokens(tokens["input_ids"][0])
    places = [words.get(piece, 2) for piece in pieces[:-1]] + [0]
    own = model.model.get_input_embeddings()(tokens["input_ids"][0]) + model.whole_words(torch.tensor(places))
    vectors = model.vectors("direct")
    assert vectors.shape == (3, 32)
    assert prompt.embeddings[0].tolist() == torch.cat([vectors, own]).tolist()
    assert not torch.equal(vectors, model.vectors("sequential"))


def test_what_is_read_of_candidates_does_not_tell_which_is_asked_for(runs, data):
    found = load_generative(runs["p5"], asked=None)
    windows = make_split(data, "leave-last-out").test.windows[:1]
    one = found.item_scores(windows, np.array([0]), np.array([[3, 8, 20]]))
    other = found.item_scores(windows, np.array([0]), np.array([[20, 3, 8]]))
    assert other[0] == pytest.approx(one[0][[2, 0, 1]], abs=1e-5)


@pytest.fixture
def broken_off(data, tmp_path, monkeypatch):
    """The folder of a training that has broken off at its fourth step, after a checkpoint at the second."""
    from palate.generative.p5 import IdLanguageModel

    own, asked = IdLanguageModel.loss, []

    def breaks_off(self, *given):
        asked.append(given)
        return own(self, *given) if len(asked) < 4 else own(self, *given) * torch.nan

    monkeypatch.setattr(IdLanguageModel, "loss", breaks_off)
    with pytest.raises(TrainingError, match=r"the loss of step 4 of the stage p5 is nan; set a lower"):
        train_generative(recipe(tmp_path, steps=4), tmp_path / "parts", dataset=data)
    monkeypatch.undo()
    return tmp_path / "parts"


def test_a_damaged_checkpoint_is_refused(data, tmp_path, broken_off):
    checkpoint = broken_off / "checkpoints" / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(DataError, match=r"not a checkpoint of this training .*; remove it to train from"):
        train_generative(recipe(tmp_path, steps=4), broken_off, dataset=data)


def test_an_interrupted_training_goes_on_to_the_same_bytes(data, tmp_path, broken_off):
    whole = train_generative(recipe(tmp_path, steps=4), tmp_path / "whole", dataset=data)
    said = []
    parts = train_generative(recipe(tmp_path, steps=4), broken_off, said.append, dataset=data)
    assert "resuming from the checkpoint: stage p5, step 2 of at most 4" in said
    weights = "model/generative.safetensors"
    assert (parts / weights).read_bytes() == (whole / weights).read_bytes()


@pytest.mark.parametrize(("given", "wanted"), [(None, 3e-3), (1e-2, 1e-2)])
def test_counting_may_have_its_own_learning_rate(data, tmp_path, monkeypatch, given, wanted):
    stages = []

    class Recording(StagedTraining):
        def __init__(self, module, stages_given, *more):
            stages.extend(stages_given)
            super().__init__(module, stages_given, *more)

    monkeypatch.setattr("palate.generative.p5_training.StagedTraining", Recording)
    asked = recipe(tmp_path, number_steps=2, number_learning_rate=given)
    train_generative(asked, tmp_path / "run", dataset=data)
    rates = [one.rate(0) * asked.train.learning_rate for one in stages]
    assert rates == pytest.approx([wanted, 3e-3])


def test_a_share_of_the_batches_goes_on_with_counting(data, tmp_path, monkeypatch):
    asked = []
    plain = IdLanguageModel.loss

    def recording(self, prompts, answers, family):
        asked.append(family)
        return plain(self, prompts, answers, family)

    monkeypatch.setattr(IdLanguageModel, "loss", recording)
    settings = {
        "families": {"direct": 1.0},
        "number_share": 0.5,
    }  # counting is asked for in sequential prompts
    train_generative(recipe(tmp_path, steps=20, **settings), tmp_path / "run", dataset=data)
    assert set(asked) == {"direct", "sequential"}
    assert 4 <= asked.count("sequential") <= 16


def test_counting_comes_before_the_training_and_its_accuracy_is_not_the_runs_score(data, tmp_path):
    told = []
    run = train_generative(
        recipe(tmp_path, ids="leaking", number_steps=2), tmp_path / "run", report=told.append, dataset=data
    )
    stages = [line.split(",")[0] for line in told if line.startswith("stage")]
    assert stages == ["stage counting"] * 3 + ["stage p5"] * 3
    found = load_generative(run)
    assert found.training.steps == 4
    best = max(float(line.split()[-1]) for line in told if "NDCG" in line)
    assert found.training.dev == pytest.approx(best, abs=1e-4)


def test_a_run_is_ranked_by_ids_of_users_and_by_their_windows(runs, data):
    name = str(runs["p5"])
    asked = [name, f"{name}:users=windows", f"{name}:decoding=beams,beams=30", "popularity"]
    table = palate.rank(asked, data)
    assert table.users == 40
    exhaustive, windows, beams, _ = (one.metrics["ndcg@10"].value for one in table.rankers)
    assert beams == pytest.approx(exhaustive)
    assert windows != exhaustive


def test_a_run_that_has_learned_from_other_data_or_from_targets_is_refused(runs, data):
    other = replace(data, info=data.info.model_copy(update={"fingerprint": "sha256:other"}))
    with pytest.raises(MismatchError, match=r"was trained on made-up"):
        palate.rank([str(runs["p5"])], other)
    split = data.holding_out(np.arange(5))
    split.split_of_user[5:9] = 1
    with pytest.raises(MismatchError, match=r"was trained on targets of new-users"):
        palate.rank([str(runs["p5"])], split, protocol="new-users")


def test_questions_that_were_not_trained_are_refused_in_a_line(runs, data):
    with pytest.raises(RecipeError, match=r"form=pick asks about candidates, and all items are ranked"):
        palate.rank([f"{runs['p5']}:family=direct,form=pick"], data)
    with pytest.raises(RecipeError, match=r"found 'beam=3', expected setting=value"):
        palate.rank([f"{runs['p5']}:beam=3"], data)


def test_a_causal_backbone_is_refused():
    with pytest.raises(ValueError, match=r"trains all weights of a T5; set model.backbone.kind"):
        Recipe(generative={"kind": "p5"}, model={"backbone": {"kind": "causal"}})


@pytest.mark.slow
def test_clean_ids_learn_the_ring_and_are_far_above_popularity(data, tmp_path):
    one = train_generative(
        recipe(tmp_path, steps=400, families={"sequential": 1.0}), tmp_path / "run", dataset=data
    )
    table = palate.rank([str(one), "popularity"], data)
    assert table.score(str(one), "ndcg@5").value > table.score("popularity", "ndcg@5").value + 0.3


@pytest.mark.slow
def test_clean_ids_do_not_tell_what_only_the_numbers_of_all_data_tell(tmp_path):
    """Users with items of their own, numbered by first appearance, the last ones included: nothing else tells them."""
    sequences = [[user * 6 + step for step in range(6)] for user in range(150)]
    data = sequence_dataset(sequences, items=900)
    settings = recipe(tmp_path, steps=1500, families={"sequential": 1.0}, ids="sequential")
    run = train_generative(settings, tmp_path / "run", dataset=data)
    table = palate.rank([str(run), "largest-id"], data)
    assert table.score("largest-id", "ndcg@5").value == 1.0
    assert table.score(str(run), "ndcg@5").value < 0.1
