"""Rankers on the same cases: candidates, tuning, differences, the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import palate
from palate.cli.app import app
from palate.config.registry import rankers, rating_predictors
from palate.config.section import KindSettings
from palate.data.event_types import EventTypes
from palate.data.protocols import make_split
from palate.errors import DataError, PalateError, RecipeError
from palate.evaluation.metrics import score_means, score_means_of_seeds
from palate.ranking.candidates import find_candidates
from palate.ranking.tables import ranking_sheets
from sequence_data import sequence_dataset
from tiny import with_own_registries


def circles(users=60, items=12, length=6, seed=0):
    """Users who walk from item to item in a circle."""
    rng = np.random.default_rng(seed)
    return [
        [int(start + step) % items for step in range(length)] for start in rng.integers(items, size=users)
    ]


DATA = sequence_dataset(circles(), items=12)


class Given:
    """Scores all items by a function of the history."""

    def __init__(self, score):
        self.score = score

    def fit(self, dataset, dev_score):
        self.items = len(dataset.items)

    def scores(self, windows, candidates=None):
        rows = [
            self.score(items[:length], self.items)
            for items, length in zip(windows.item_index, windows.length, strict=True)
        ]
        every = np.array(rows, dtype=np.float64)
        return every if candidates is None else np.take_along_axis(every, np.maximum(candidates, 0), axis=1)


def next_in_circle(history, items):
    return -((np.arange(items) - history[-1] - 1) % items)


def test_a_ranker_that_knows_the_rule_finds_everything():
    table = palate.rank([("oracle", Given(next_in_circle)), "item-knn:decay=0.5", "popularity"], DATA)
    assert table.score("oracle").value == table.score("oracle", "mrr").value == 1
    assert table.score("popularity").value < table.score("item-knn:decay=0.5").value
    assert table.users == 60
    assert table.of("oracle").coverage == 1


def test_differences_are_paired_with_the_best_other_or_the_named_one():
    entries = [("oracle", Given(next_in_circle)), "item-knn:decay=0.5", "popularity"]
    best = palate.rank(entries, DATA)
    assert best.of("oracle").difference.to == "item-knn:decay=0.5"
    assert best.of("popularity").difference.to == "oracle"
    named = palate.rank(entries, DATA, versus="popularity")
    assert named.of("popularity").difference is None
    found = named.of("oracle").difference
    assert found.value == pytest.approx(1 - named.score("popularity").value)
    assert found.low > 0
    assert found.p < 1e-6


def test_settings_are_tuned_on_dev_and_given_ones_are_not():
    table = palate.rank(["item-knn", "item-knn:decay=1"], DATA, trials=3)
    assert (table.of("item-knn").trials, table.of("item-knn:decay=1").trials) == (3, 1)
    assert table.of("item-knn:decay=1").settings == {"shrinkage": 5.0, "decay": 1.0}
    assert table.of("item-knn").dev >= 0
    assert table.of("item-knn:decay=1").dev is None


def test_dev_is_not_scored_where_there_is_nothing_to_choose():
    asked = []

    class Watched(Given):
        def scores(self, windows, candidates=None):
            asked.append(len(windows))
            return super().scores(windows, candidates)

    palate.rank([("watched", Watched(next_in_circle))], DATA)
    assert sum(asked) == 60


def test_as_many_users_are_drawn_as_are_asked_for():
    some, again = (palate.rank(["popularity"], DATA, users=20, seed=3) for _ in range(2))
    assert some.users == 20
    assert some.warnings == ("20 of 60 test users, drawn by the seed 3",)
    assert some.rankers[0].metrics == again.rankers[0].metrics
    assert palate.rank(["popularity"], DATA, users=20, seed=4).rankers[0].metrics != some.rankers[0].metrics
    every = palate.rank(["popularity"], DATA, users=60)
    assert (every.users, every.warnings) == (60, ())
    assert every.rankers[0].metrics == palate.rank(["popularity"], DATA).rankers[0].metrics


def test_groups_are_by_history_and_by_how_well_the_target_is_known():
    table = palate.rank(["popularity"], DATA)
    assert table.groups["history"] == {"5–9": 60}
    assert sum(table.groups["target's training events"].values()) == 60
    timed = sequence_dataset(circles(), items=12, times=[[86_400 * 40 * step for step in range(6)]] * 60)
    assert sum(palate.rank(["popularity"], timed).groups["target's age"].values()) == 60


def test_drawn_candidates_are_unseen_distinct_and_come_with_a_warning():
    split = make_split(DATA, "leave-last-out")
    cases, drawn = find_candidates(4, DATA, split.test, False, seed=1)
    for row, history, targets in zip(drawn, cases.windows.item_index, cases.targets, strict=True):
        assert len(set(row.tolist())) == 4
        assert not {*row.tolist()} & {*history[:5].tolist(), *targets.tolist()}
    assert len(np.unique(drawn)) == 12
    table = palate.rank(["popularity"], DATA, candidates=4)
    assert "ranked among 4 sampled items and the target" in table.warnings[0]
    with pytest.raises(DataError, match="100 candidates are requested, but only 7 of 12 items are left"):
        palate.rank(["popularity"], DATA, candidates=100)


def test_candidates_of_a_file_are_the_items_on_a_users_line(tmp_path):
    path = tmp_path / "candidates.txt"
    start = int(DATA.interactions.item_index[0])
    path.write_text(f"u0 {(start + 7) % 12} {(start + 8) % 12}\n")
    table = palate.rank([("worst", Given(lambda h, n: -next_in_circle(h, n)))], DATA, candidates=path)
    assert (table.users, table.warnings) == (1, ())
    assert table.score("worst", "mrr").value == pytest.approx(1 / 3)
    path.write_text("u0 1\nnobody 1\n")
    with pytest.raises(DataError, match=r"candidates.txt:2: no user 'nobody' in made-up"):
        palate.rank(["popularity"], DATA, candidates=path)
    path.write_text("u0 1 77\n")
    with pytest.raises(DataError, match=r"candidates.txt:1: no item '77' in made-up"):
        palate.rank(["popularity"], DATA, candidates=path)
    with pytest.raises(DataError, match="nowhere: no such candidate file; expected a file, a number, or all"):
        palate.rank(["popularity"], DATA, candidates="nowhere")


def test_seen_items_are_ranked_only_if_asked_for():
    again = sequence_dataset([[0, 1, 2, 0]] * 5, items=4)
    with pytest.raises(DataError, match="no user of made-up has a test case"):
        palate.rank(["popularity"], again)
    table = palate.rank(["popularity"], again, keep_seen=True)
    assert table.score("popularity", "hr@5").value == 1


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda history, items: np.full(items, np.nan), "returned a score that is not finite"),
        (
            lambda history, items: np.zeros(items + 1),
            r"returned scores of shape \(60, 13\), expected \(60, 12\)",
        ),
    ],
)
def test_scores_are_checked(score, said):
    with pytest.raises(PalateError, match=f"mine {said}"):
        palate.rank([("mine", Given(score))], DATA)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "no ranker; name at least one"),
        (["popularity", "popularity"], "a ranker is named twice"),
        (["item-kn"], "there is no ranker 'item-kn'; .* did you mean 'item-knn'?"),
        (["item-knn:decy=1"], "item-knn: found 'decy=1', expected setting=value; .* did you mean 'decay'?"),
        (["item-knn:decay=2"], "item-knn: decay: "),
        (["popularity:x=1"], "it has no settings"),
    ],
)
def test_entries_are_checked_first(entries, said):
    with pytest.raises(RecipeError, match=said):
        palate.rank(entries, DATA)


def test_the_command_prints_a_table_or_json(tmp_path):
    path = tmp_path / "walks.txt"
    path.write_text("".join(f"{user} {' '.join(map(str, one))}\n" for user, one in enumerate(circles())))
    run = CliRunner().invoke
    made = run(app, ["prepare", str(path), "--format", "sequences", "--out", str(tmp_path / "data")])
    assert made.exit_code == 0, made.output
    asked = ["rank", "popularity", "item-knn", "--data", str(tmp_path / "data")]
    shown = run(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "60 users, leave-last-out, among all 12 items, seed 0" in shown.stdout
    found = json.loads(run(app, [*asked, "--json"]).stdout)
    assert [one["name"] for one in found["rankers"]] == ["popularity", "item-knn"]
    assert palate.RankingTable.model_validate(found).score("item-knn").value > 0


class Lucky:
    """Finds everything from one seed and nothing from others; remembers from which it was trained."""

    def __init__(self, settings):
        self.settings = settings

    def fit(self, dataset, dev_score):
        TRAINED.append(self.settings.seed)

    def scores(self, windows, candidates=None):
        sign = 1 if self.settings.seed == 5 else -1
        ends = windows.item_index[np.arange(len(windows)), windows.length - 1]
        return np.stack([sign * next_in_circle([end], 12) for end in ends]).astype(float)


class LuckySettings(KindSettings):
    seed: int = 5


TRAINED = []


def test_scores_are_means_over_seeds_for_rankers_that_have_one(monkeypatch):
    with_own_registries(monkeypatch)
    TRAINED.clear()
    palate.register_ranker("lucky", Lucky, LuckySettings)
    table = palate.rank(["lucky", "popularity"], DATA, seeds=4)
    assert TRAINED == [5, 6, 7, 8]
    lucky = table.of("lucky")
    assert (lucky.seeds, table.of("popularity").seeds, table.of("popularity").seed_sd) == (4, 1, None)
    assert lucky.metrics["hr@5"].value == 0.25
    assert lucky.seed_sd["hr@5"] == pytest.approx(0.5)  # of 1, 0, 0 and 0
    assert (lucky.metrics["hr@5"].low, lucky.metrics["hr@5"].high) == (0, 0.75)
    difference = lucky.difference.value
    assert difference == pytest.approx(lucky.metrics["ndcg@10"].value - table.score("popularity").value)


def test_intervals_over_one_seed_are_those_over_users():
    values = np.random.default_rng(0).random((1, 50, 3))
    assert score_means_of_seeds(values, 7) == score_means(values[0], 7)


def test_cold_items_are_ranked_among_all_and_among_each_other():
    rng = np.random.default_rng(2)
    data = sequence_dataset([rng.permutation(30)[:12].tolist() for _ in range(80)], items=30)
    cold = make_split(data, "cold-items", seed=1).cold

    def prefers_cold(history, items):
        return np.isin(np.arange(items), cold).astype(float)

    entries = [("knows which", Given(prefers_cold)), "popularity"]
    table = palate.rank(entries, data, protocol="cold-items", seed=1)
    assert table.cold_items == 3
    known, popular = table.rankers
    assert known.metrics["hr@5"].value == 1 > popular.metrics["hr@5"].value
    expected = np.mean([1, 1 / 2, 1 / 3])  # all three are alike to both rankers
    assert known.cold.metrics["mrr"].value == pytest.approx(expected) == popular.cold.metrics["mrr"].value
    assert known.cold.difference.value == 0
    sheet = list(ranking_sheets(table))[1]
    assert sheet.title == "Among the 3 cold items alone"
    assert sheet.rows[0][0] == "knows which"


def test_the_help_names_every_registered_ranker():
    shown = " ".join(CliRunner().invoke(app, ["rank", "--help"], env={"COLUMNS": "400"}).stdout.split())
    assert (
        f"{', '.join(rankers.kinds)}; for ratings: {', '.join(rating_predictors.kinds)}. Or run folders"
        in shown
    )


def test_a_ranker_that_does_not_read_event_types_is_shown_no_skips():
    dataset = sequence_dataset([[0, 1, 2, 3, 4, 5]] * 8, items=6)
    index = np.tile(np.array([1, 0, 1, 0, 1, 1], dtype=np.uint8), 8)
    types = EventTypes(weights={"skip": -1, "view": 1})
    info = dataset.info.model_copy(update={"rating_values": (0.0, 1.0), "event_types": types})
    dataset = replace(dataset, info=info, interactions=replace(dataset.interactions, rating_index=index))

    class Told:
        def __init__(self):
            self.learned, self.read = set(), set()

        def fit(self, dataset, dev_ndcg):
            self.learned |= set(dataset.interactions.item_index.tolist())

        def scores(self, windows, candidates=None):
            self.read |= set(windows.item_index[windows.mask].tolist())
            return np.zeros((len(windows), 6), dtype=np.float32)

    class Reads(Told):
        reads_event_types = True

    plain, reads = Told(), Reads()
    palate.rank([("plain", plain), ("reads", reads)], dataset)
    assert (plain.learned, plain.read) == ({0, 2}, {0, 2, 4})
    assert (reads.learned, reads.read) == ({0, 1, 2, 3}, {0, 1, 2, 3, 4})
