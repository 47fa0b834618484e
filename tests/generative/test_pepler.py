"""PEPLER on a few reviews: losses by hand, trained weights by stage, resumption, files and held-out data."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from bookshop import write_rows
from palate.cli.app import app
from palate.config.recipe import ModelSettings, PooledSettings, Recipe
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.encoders.batch import windows_of
from palate.errors import DataError, MismatchError, RecipeError
from palate.generative.newcomers import KnownHistories
from palate.generative.pepler import Pairs
from palate.generative.pepler_answers import explain_items
from palate.generative.pepler_cases import first_words, prompt_words, split_texts
from palate.generative.pepler_files import load_pepler
from palate.generative.pepler_training import batch_loss, new_pepler, pepler_stages, train_pepler
from palate.generative.staged_training import CHECKPOINT, StagedTraining
from palate.schema import History
from tiny import ENCODER, made_up_table

WORDS = ["strings", "sound", "tuner", "cable", "good", "bad", "small", "loud"]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Twelve users, nine items and five reviews each; an item's word is part of its reviews."""
    rng, rows = np.random.default_rng(0), []
    for user in range(12):
        for time, item in enumerate(rng.permutation(9)[:5]):
            text = f"The {WORDS[item % 8]} of u{user} is {'good' if item % 2 else 'bad'} at {user}-{item}"
            row = {"user": f"u{user}", "item": f"i{item}", "rating": 5.0 if item % 2 else 2.0}
            rows.append(row | {"review_text": text, "time": 10 * time + user})
    folder = tmp_path_factory.mktemp("reviews")
    return prepare(write_rows(rows, folder / "r.jsonl"), folder / "data", dev_share=0.2, test_share=0.2)


def recipe_of(reviews, pepler=None, **train):
    small = {"kind": "random-causal", "d_model": 16, "num_heads": 2, "num_layers": 1, "vocab_size": 300}
    content = {"backbone": small, "rating": "mlp", "mlp_size": 8, "max_words": 6, "prompt_words": 4}
    content |= {"language_steps": 4, "prompt_steps": 4, "tuning_steps": 4} | (pepler or {})
    steps = {"per_device_train_batch_size": 8, "eval_steps": 2, "threads": 1, "learning_rate": 0.01}
    return Recipe(data={"path": reviews.path}, pepler=content, train=steps | train)


def model_of(reviews, **pepler):
    recipe = recipe_of(reviews, pepler)
    split = split_texts(reviews, recipe.pepler, 0)
    model, _ = new_pepler(recipe.pepler, reviews, split, 0)
    return model.eval(), split, recipe


@pytest.fixture(scope="module")
def run(reviews, tmp_path_factory):
    return train_pepler(recipe_of(reviews), tmp_path_factory.mktemp("runs") / "pepler")


@pytest.mark.parametrize("rating", ["mf", "mlp"])
def test_the_loss_is_cross_entropy_and_weighted_squared_error(reviews, rating):
    model, split, _ = model_of(reviews, rating=rating, rating_weight=0.25)
    batch = split.training.of(np.arange(3))
    found = batch_loss(model, batch)
    users, items = model.users.weight[batch.user], model.items.weight[batch.item]
    if rating == "mf":
        said = (users * items).sum(dim=1)
    else:
        stream = torch.cat([users, items], dim=1)
        for layer in model.mlp.hidden:
            stream = torch.sigmoid(stream @ layer.weight.T + layer.bias)
        said = (stream @ model.mlp.out.weight.T + model.mlp.out.bias)[:, 0]
    squares = (model.mean + said - torch.tensor(batch.rating)) ** 2
    tokens = []
    for row in range(3):  # one by one, from embeddings that are laid side by side by hand
        vectors = model.gain * torch.stack([users[row], items[row]])
        closing = model._embed(torch.tensor(model.frame.closing))
        ids = [*model.tokenizer(batch.texts[row], add_special_tokens=False)["input_ids"], model.frame.end]
        whole = torch.cat([vectors, closing, model._embed(torch.tensor(ids[:-1]))])
        logits = model.backbone(inputs_embeds=whole[None]).logits[0, 1 + len(closing) :]
        tokens += torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="none").tolist()
    assert float(found.rating) == pytest.approx(float(squares.mean()), rel=1e-5)
    assert float(found.language) == pytest.approx(np.mean(tokens), rel=1e-4)
    assert float(found.whole) == pytest.approx(float(found.language) + 0.25 * float(found.rating))
    assert float(found.with_rating_weight(2.0)) == pytest.approx(
        float(found.language) + 2 * float(found.rating)
    )


def test_each_stage_trains_its_own_weights_and_lowers_the_dev_loss(reviews, tmp_path):
    model, split, recipe = model_of(reviews)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    language, prompt, _ = pepler_stages(model, split, recipe)

    def train(stage, folder):
        (tmp_path / folder).mkdir()
        return StagedTraining(model, [stage], recipe.train, 0, tmp_path / folder, print).run().history

    def changed():
        return {
            name.split(".")[0] for name, weight in model.named_parameters() if not weight.equal(before[name])
        }

    told = train(language, "a")
    assert changed() == {"backbone"}
    assert told[-1][2] < told[0][2]
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    told = train(prompt, "b")
    assert changed() == {"users", "items", "mlp"}
    assert told[-1][2] < told[0][2]


def test_an_interrupted_training_ends_with_the_same_bytes(reviews, run, tmp_path):
    recipe = recipe_of(reviews)

    class Stopped(Exception):
        pass

    def stop(line):
        if line.startswith("stage both, step 2 "):
            raise Stopped

    other = tmp_path / "other"
    with pytest.raises(Stopped):
        train_pepler(recipe, other, stop)
    assert (other / "checkpoints" / CHECKPOINT).is_file()
    said = []
    train_pepler(recipe, other, said.append)
    assert said[0].startswith("resuming from the checkpoint: stage")
    for name in ("pepler.safetensors", "pepler.json"):
        assert (other / "model" / name).read_bytes() == (run / "model" / name).read_bytes()


def test_a_run_is_loaded_with_the_same_answers(reviews, run):
    trained = load_pepler(run)
    again = explain_items(load_pepler(run), "u3", ["i0", "i1"])
    assert again == explain_items(trained, "u3", ["i0", "i1"])
    assert all(2 <= one.rating <= 5 and len(one.text.split()) <= 6 for one in again)
    with pytest.raises(DataError, match="no user 'u33' among those of the run; did you mean 'u3'"):
        explain_items(trained, "u33", ["i0"])
    with pytest.raises(DataError, match="1 item id is not known: 'x'"):
        explain_items(trained, "u3", ["x"])


def test_held_out_texts_and_ratings_are_not_read(reviews):
    """What a model is made of, and what it writes, stays the same when held-out reviews and ratings are others."""
    model, split, recipe = model_of(reviews, prompt="discrete", rating="none")
    rows = np.concatenate([split.dev.row, split.test.row])
    assert len(rows) == 24  # the last two of each user
    assert not split.known[rows].any()
    assert not np.intersect1d(rows, split.training.row).size
    texts = reviews.review_texts.to_list()
    for row in rows:
        texts[row] = "leaked leaked"
    other = replace(reviews, path=None, reviews=pl.Series(texts))
    words = prompt_words(other, split_texts(other, recipe.pepler, 0), 4)
    assert words.users == model.words.users
    assert words.items == model.words.items
    assert words.source == "words of training reviews"
    assert not any("leaked" in text for text in [*words.users, *words.items])


def test_discrete_prompts_are_words_before_the_text(reviews):
    model, split, _ = model_of(reviews, prompt="discrete", rating="none")
    batch = split.training.of(np.arange(1))
    pairs = Pairs(torch.from_numpy(batch.user), torch.from_numpy(batch.item))
    text = f"{model.words.users[batch.user[0]]} | {model.words.items[batch.item[0]]}"
    ids = [*model.tokenizer(text, add_special_tokens=False)["input_ids"], *model.frame.closing]
    assert model.prompt(pairs).embeddings[0].allclose(model._embed(torch.tensor(ids)))
    assert model.parts("prompt") == []


def test_words_without_end_are_cut_and_a_prompt_that_has_no_room_is_refused(reviews):
    model, _, _ = model_of(reviews, prompt="discrete", rating="none")
    model.words.users[0] = model.words.items[0] = "-".join(map(str, range(900)))
    pairs = Pairs(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert model.prompt(pairs).mask.sum(dim=1).max() <= 2 * 3 * model.settings.prompt_words + 2
    links = ["http://" + "/".join(map(str, range(900)))] * 2
    assert torch.isfinite(model.loss(pairs, links, None).whole)
    with pytest.raises(RecipeError, match=r"may have 51\d tokens, 3 a word, and the backbone reads 256"):
        model_of(reviews, prompt="discrete", rating="none", prompt_words=82)


def test_new_users_have_no_vector_and_the_mean_is_of_those_trained_on(reviews):
    model, split, _ = model_of(reviews, protocol="new-users")
    trained = np.unique(split.training.user)
    assert model.mean_user.allclose(model.users.weight[trained].mean(dim=0))
    assert not np.isin(split.test.user, trained).any()
    assert split.known[np.isin(reviews.interactions.owner, split.test.user)].sum() == 4 * len(split.test)


def test_settings_that_do_not_fit_are_refused_before_any_work(reviews, tmp_path):
    with pytest.raises(RecipeError, match="a discrete prompt has no vectors to predict ratings from"):
        train_pepler(recipe_of(reviews, {"prompt": "discrete"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_texts_are_cut_after_words_and_hold_no_control_characters():
    assert first_words("a\x00b \u2028c\n\n d  e", 3) == "a b c"
    assert first_words(" \ud800 ", 3) == ""


def test_the_command_explains_and_scores(reviews, run, tmp_path):
    said = CliRunner().invoke(app, ["explain", str(run), "--user", "u1", "--item", "i2", "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)[0]["item_id"] == "i2"
    out = tmp_path / "texts.jsonl"
    said = CliRunner().invoke(app, ["explain", str(run), "--held-out", "test", "--out", str(out), "--json"])
    assert said.exit_code == 0, said.output
    names = [one["name"] for one in json.loads(said.stdout)]
    means = ["mean of the training ratings", "item mean + user's offset", "biased MF"]
    texts = ["the most common text", "the user's previous text", "somebody else's text of the item"]
    assert names[0] == "PEPLER"
    assert names[-6:] == [*means, *texts]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 12
    assert lines[0].keys() == {"user_id", "item_id", "rating", "explanation", "review", "predicted"}
    wrong = CliRunner().invoke(app, ["explain", str(run)])
    assert wrong.exit_code == 2
    assert load_dataset(reviews.path).info.fingerprint == load_pepler(run).record.data_fingerprint


class Letters:
    """Counts letters in the place of a sentence encoder."""

    def __init__(self, *_):
        self.identity = ENCODER

    @classmethod
    def of(cls, *_):
        return cls()

    def encode(self, texts, progress=None):
        rows = [[text.count(letter) for letter in "abcdefghijklmnop"] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, 16)

    fresh = encode


@pytest.fixture(scope="module")
def newcomers(reviews, tmp_path_factory):
    """A run of new users, whose histories an encoder reads, texts included."""
    from palate.generative import newcomers, pepler_answers, pepler_training

    recipe = recipe_of(reviews, {"newcomer_steps": 4, "protocol": "new-users"}).model_copy(
        update={"model": ModelSettings(user_encoder=PooledSettings(d_ff=8), event_texts=True)}
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (newcomers, pepler_answers, pepler_training):
            patch.setattr(module, "ItemEncoder", Letters)
        table = made_up_table(reviews)
        patch.setattr(pepler_training, "build_item_table", lambda *_: table)
        yield train_pepler(recipe, tmp_path_factory.mktemp("newcomers") / "run"), reviews


def test_users_who_were_not_trained_on_are_read_from_their_histories(newcomers):
    run, reviews = newcomers
    trained = load_pepler(run)
    unseen = int(reviews.users("test")[0])
    with pytest.raises(DataError, match="who has no vector; give the history of the user"):
        explain_items(trained, reviews.user_ids[unseen], ["i1"])
    history = reviews.histories([reviews.user_ids[unseen]])[0]
    model, table = trained.model, trained.model.newcomer_table
    told, silent, empty = (
        model.newcomers(windows_of([one], table, encode=Letters().fresh))[0]
        for one in (history, replace(history, texts=()), History("nobody", [], [], []))
    )
    assert not torch.equal(told, silent)
    assert empty.allclose(model.mean_user)  # nothing is known of the user
    with (
        torch.no_grad()
    ):  # however large the encoder's output is, the vector stays in the range of trained ones
        model.newcomers.project.weight.mul_(1e6)
        far = model.newcomers(windows_of([history], table, encode=Letters().fresh))[0]
        model.newcomers.project.weight.div_(1e6)
    spread = model.users.weight[model.trained].std(dim=0, correction=0)
    assert bool(((far - model.mean_user).abs() <= 2 * spread + 1e-6).all())
    assert not far.allclose(model.mean_user)
    (said,) = explain_items(trained, history, ["i1"])
    known = Pairs(torch.tensor([0]), torch.tensor([1]), told[None])
    assert said.rating == pytest.approx(float(model.ratings(known)), abs=1e-3)


def test_a_newcomers_own_target_is_never_read(newcomers):
    _, reviews = newcomers
    recipe = recipe_of(reviews, {"protocol": "new-users"})
    split = split_texts(reviews, recipe.pepler, 0)
    histories = KnownHistories.of(reviews.interactions, split, 20)
    events = reviews.interactions
    for cases in (split.training, split.test):
        windows = histories.windows(cases)
        for row in range(len(cases)):
            shown = windows.item_index[row, : windows.length[row]]
            assert cases.item[row] not in shown
            assert windows.length[row] == 4  # the other four of the user's five
            assert set(shown) <= set(events.item_index[events.owner == cases.user[row]])


def test_a_run_without_an_encoder_refuses_histories(reviews, run):
    with pytest.raises(MismatchError, match=r"train it with pepler\.newcomer_steps above 0"):
        explain_items(load_pepler(run), reviews.histories(["u1"])[0], ["i1"])
