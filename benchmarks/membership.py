"""Measures how well a state or a user prompt reveals whether an item is in the user's history (membership inference).

    python benchmarks/membership.py data/ml-1m [--window 50] [--users 400] [--streaming runs/movielens-1m]

The attacker has parts of a user's state, or the user prompt, and gets pairs of items: one in the window, and one that
the user never rated and that is equally popular (so popularity does not help). Which one is in the window? The
attacker knows the catalogue, and the histories of as many other users for training. "AUC" is the share of correct
answers, 0.5 by chance, with the 95% interval of a bootstrap over users. "found at 1%" is the true positive rate at a
false positive rate of 1%. Noise (Laplace, its scale in ratings) is added to counts, totals and sums of squares by
category; rounding is to multiples. "liked F1" is the score of the packaged model's decisions from such counts, against
the labels of the full history.

With ``--streaming`` a trained streaming encoder is attacked, too. Latent sums are linear in the items, each of which
adds its weight times its value to each query: the attacker, who knows the weights of the model, looks for the items by
a matched filter, whitened by the covariance of such sums of training users. From user prompts he learns a linear map
to the mean of the item vectors, on windows of the same users, and looks for items by the same filter. Noise is normal;
its scale and the step of rounding are in standard deviations of each number between users. "liked F1" is then that of
a linear map from the part's averages, or from prompts, with as much noise, fitted to training users.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from palate.data.dataset import Dataset, load_dataset
from palate.data.windows import draw_windows
from palate.encoders.calibration import counts_of, read_in_batches
from palate.encoders.counts import CategoryCounts
from palate.encoders.estimates import PopulationInputs, Seen
from palate.encoders.marks import window_marks
from palate.evaluation.metrics import weighted_f1
from palate.fold.projections import builder_of
from palate.fold.state_builder import LatentProjections, UserEvents
from palate.items.categories import MEMBER
from palate.model.model import PersonalizedModel, load_model
from palate.model.tables import vectors_of
from palate.schema import Windows
from palate.system.places import PACKAGED
from palate.tasks import load_task
from palate.tasks.decisions import decide
from palate.tasks.statistics import category_statistics

PAIRS = 20
"""Pairs of items per user."""
COMPONENTS = 64


@dataclass(frozen=True, eq=False)
class Asked:
    """Pairs of B users: an item of the window and another item, [B, PAIRS, 2]."""

    users: np.ndarray  # [B]
    windows: Windows
    items: np.ndarray  # [B, PAIRS, 2]


def asked_of(dataset: Dataset, users: np.ndarray, size: int, rng: np.random.Generator) -> Asked:
    """Draw windows, and pairs of equally popular items."""
    windows = draw_windows(dataset.interactions, users, size, "random", rng)
    popularity = np.bincount(dataset.interactions.item_index, minlength=len(dataset.items))
    order = np.argsort(popularity, kind="stable")
    rank = np.argsort(order)
    items = np.zeros((len(users), PAIRS, 2), dtype=np.int64)
    for row, user in enumerate(users):
        start, stop = dataset.interactions.offsets[user : user + 2]
        rated = np.zeros(len(order), dtype=np.bool_)
        rated[dataset.interactions.item_index[start:stop]] = True
        free = np.flatnonzero(~rated[order])  # popularity ranks of items that the user never rated
        members = rng.choice(windows.item_index[row, : windows.length[row]], PAIRS)
        at = np.searchsorted(free, rank[members]).clip(max=len(free) - 1)
        at = np.where((at > 0) & (rng.random(PAIRS) < 0.5), at - 1, at)  # the nearest rank below or above
        items[row] = np.stack([members, order[free[at]]], axis=1)
    return Asked(users, windows, items)


def count_features(counts: CategoryCounts, asked: Asked, matrix: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Compute features of each item from category counts, [B * PAIRS * 2, F]."""
    count = counts.count.numpy() / MEMBER
    total = counts.total.numpy() / MEMBER
    length = counts.length.numpy()[:, None]
    ratio = np.log((np.maximum(count, 0) + 0.5) / (length * share + 0.5))  # [B, L]
    mean = np.where(count > 0.5, total / np.maximum(count, 0.5), 0.0)
    has = matrix[asked.items]  # [B, PAIRS, 2, L]
    number = has.sum(axis=-1).clip(min=1)
    columns = []
    for values in (count, ratio, mean):
        there = np.where(has, values[:, None, None], np.nan)
        columns += [np.nanmin(there, axis=-1), np.nanmax(there, axis=-1), np.nansum(there, axis=-1) / number]
    columns.append(number.astype(float))
    return np.stack(columns, axis=-1).reshape(-1, len(columns))


class Attack:
    """Classifier that is trained on some users' pairs and applied to others'."""

    def __init__(self, learned: Asked, asked: Asked, matrix: np.ndarray, share: np.ndarray) -> None:
        self.learned, self.asked, self.matrix, self.share = learned, asked, matrix, share

    def by_counts(self, first: CategoryCounts, second: CategoryCounts) -> np.ndarray:
        """Score [B, PAIRS, 2] from counts."""
        known, given = (
            count_features(counts, one, self.matrix, self.share)
            for counts, one in ((first, self.learned), (second, self.asked))
        )
        truth = np.tile([1, 0], len(known) // 2)
        model = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.08, random_state=0)
        return self._shaped(model.fit(known, truth).predict_proba(given)[:, 1])

    def by_prompts(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Score from user prompts [B, M * E]: their components times the item's categories."""
        components = PCA(min(COMPONENTS, len(first) - 1), whiten=True, random_state=0).fit(first)
        known, given = (
            (
                components.transform(prompts)[:, None, None, :, None] * self.matrix[one.items][..., None, :]
            ).reshape(one.items.size, -1)
            for prompts, one in ((first, self.learned), (second, self.asked))
        )
        truth = np.tile([1, 0], len(known) // 2)
        model = LogisticRegression(C=0.01, max_iter=300).fit(known, truth)
        return self._shaped(model.decision_function(given))

    def _shaped(self, score: np.ndarray) -> np.ndarray:
        return score.reshape(self.asked.items.shape)


def told(score: np.ndarray) -> str:
    """Format the AUC over the pairs, and the true positive rate at a false positive rate of 1%."""
    users = len(score)
    truth = np.broadcast_to([1, 0], score.shape)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(users, size=users) for _ in range(200)]
    each = [roc_auc_score(truth[rows].ravel(), score[rows].ravel()) for rows in drawn]
    low, high = np.quantile(each, [0.025, 0.975])
    found = (score[..., 0] > np.quantile(score[..., 1], 0.99)).mean()
    return f"{roc_auc_score(truth.ravel(), score.ravel()):.3f} ({low:.3f}–{high:.3f}) | {found:.1%}"


def with_noise(counts: CategoryCounts, scale: float, multiple: int, seed: int) -> CategoryCounts:
    """Add noise of a scale, in events, to the category counts, or round them to multiples."""
    rng = np.random.default_rng(seed)

    def changed(column: torch.Tensor, each: float) -> torch.Tensor:
        values = column.numpy() / MEMBER
        if scale:
            values = np.maximum(values + rng.laplace(0, scale * each, values.shape), 0)
        if multiple > 1:
            values = np.round(values / (multiple * each)) * multiple * each
        return torch.from_numpy(np.rint(values * MEMBER).astype(np.int64))

    mean = float(counts.whole.sum()) / max(float(counts.length.sum()), 1)
    square = float(counts.squares.sum()) / max(float(counts.count.sum()), 1)
    return replace(
        counts,
        count=changed(counts.count, 1),
        total=changed(counts.total, mean),
        squares=changed(counts.squares, square),
    )


def prompts_of(model: PersonalizedModel, windows: Windows) -> np.ndarray:
    """Encode windows to user prompts as rows, padded to equal length, [B, M * E]."""
    rows = []
    with torch.inference_mode():
        for start in range(0, len(windows), 64):
            user = model.user_prompt(windows[start : start + 64])
            rows += [
                (one * mask[:, None]).flatten() for one, mask in zip(user.embeddings, user.mask, strict=True)
            ]
    longest = max(len(one) for one in rows)
    return np.stack([np.pad(one.numpy(), (0, longest - len(one))) for one in rows])


def filtered(asked: Asked, held: np.ndarray, items: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Score pairs by a matched filter, [B, PAIRS, 2].

    Args:
        asked: The pairs.
        held: What the attacker holds of the users, linear in their items, [B, D].
        items: What each item adds to it, [I, D].
        others: The same of other users, whose covariance whitens it, [B', D].
    """
    mean = others.mean(axis=0)
    covariance = np.cov(others.T)
    covariance[np.diag_indices_from(covariance)] += 1e-6 * np.trace(covariance) / len(covariance)
    white = np.linalg.solve(covariance, items.T).T  # [I, D]
    length = np.sqrt(np.einsum("id,id->i", white, items))
    score = (held - mean) @ white.T / length  # [B, I]
    return np.take_along_axis(score[:, None], asked.items.reshape(len(held), 1, -1), axis=2).reshape(
        asked.items.shape
    )


def rough(values: np.ndarray, scale: float, step: float, seed: int) -> np.ndarray:
    """Add normal noise, or round; both in standard deviations of each column."""
    deviation = values.std(axis=0) + 1e-12
    if scale:
        values = values + np.random.default_rng(seed).normal(0, scale, values.shape) * deviation
    if step:
        values = np.round(values / (step * deviation)) * step * deviation
    return values


def read_out(first: np.ndarray, second: np.ndarray, known: np.ndarray, truth: np.ndarray) -> float:
    """Return the weighted F1 of the liked categories [B, L] that a linear map reads from rows of the other users.

    Args:
        first: What is held of the users that it is fitted to, of whom a fifth chooses the threshold, [B', D].
        second: The same of those that are scored, [B, D].
        known: Liked categories of the former, [B', L].
        truth: Those of the latter, [B, L].
    """
    fitted = len(first) * 4 // 5
    scaler = StandardScaler().fit(first[:fitted])
    model = Ridge(alpha=fitted).fit(scaler.transform(first[:fitted]), known[:fitted])
    chosen, said = (model.predict(scaler.transform(rows)) for rows in (first[fitted:], second))
    best = max(np.linspace(0.05, 0.5, 19), key=lambda at: weighted_f1(known[fitted:], chosen > at))
    return weighted_f1(truth, said > best)


def attack_streaming(
    model: PersonalizedModel, learned: Asked, asked: Asked, truths: tuple[np.ndarray, np.ndarray]
) -> None:
    """Print the rows of a streaming encoder's latent sums and user prompts; ``truths`` are the liked categories."""
    projections = builder_of(model).latent
    assert projections is not None
    weights = np.exp(projections.logits.astype(np.float64))  # [I, Q]
    added = weights[:, :, None] * projections.item_values[:, None]  # [I, Q, V]
    added = added.reshape(len(added), -1)
    split = projections.rating_values.shape[1] + 1
    states = [_sums(projections, one.windows) for one in (learned, asked)]

    def held(records: np.ndarray) -> np.ndarray:
        scale = np.exp2(records["exponent"].astype(np.float64))[..., None]
        sums = (records["sums"].astype(np.float64) + records["rest"]) * scale
        return sums[:, :, split:].reshape(len(records), -1)

    def averages(records: np.ndarray, scale: float, step: float, seed: int) -> np.ndarray:
        sums = records["sums"].astype(np.float64) + records["rest"]
        made = sums[..., 1:] / np.maximum(sums[..., :1], 1e-9)
        return rough(made.reshape(len(sums), -1), scale, step, seed)

    known, given = map(held, states)
    for scale, step in ((0, 0), (0.1, 0), (0.3, 0), (1, 0), (0, 0.1), (0, 0.5), (0, 1)):
        score = filtered(asked, rough(given, scale, step, 1), added, rough(known, scale, step, 0))
        one, two = (averages(records, scale, step, seed) for seed, records in enumerate(states))
        name = f" with noise of {scale}" if scale else f" rounded to {step}" if step else ""
        print(f"| the part `latent`{name} | {told(score)} | {read_out(one, two, *truths):.3f} |", flush=True)
    vectors = vectors_of(model.table)
    assert vectors is not None
    every = vectors.vectors.reshape(len(vectors), -1)
    components = PCA(COMPONENTS, whiten=True, random_state=0).fit_transform(every)  # [I, D]
    first, second = (prompts_of(model, one.windows) for one in (learned, asked))
    means = np.stack([components[row].mean(axis=0) for row in _items_of(learned.windows)])
    for scale, step in ((0, 0), (0.3, 0), (1, 0), (0, 0.5), (0, 1)):
        one, two = rough(first, scale, step, 0), rough(second, scale, step, 1)
        read = Ridge(alpha=len(one)).fit(one, means)
        score = filtered(asked, read.predict(two), components, read.predict(one))
        name = f" with noise of {scale}" if scale else f" rounded to {step}" if step else ""
        worth = read_out(one, two, *truths)
        print(f"| the user prompt of a streaming encoder{name} | {told(score)} | {worth:.3f} |", flush=True)


def _sums(projections: LatentProjections, windows: Windows) -> np.ndarray:
    """Compute the latent sums of windows, [B]."""
    there = windows.mask
    offsets = np.concatenate([[0], np.cumsum(windows.length)]).astype(np.int64)
    columns = (windows.item_index, windows.rating_index, windows.timestamp)
    item, rating, time = (one[there] for one in columns)
    return projections.sums(UserEvents(offsets, item, rating, time, np.zeros(len(item), np.int64)))


def _items_of(windows: Windows) -> list[np.ndarray]:
    return [row[:length] for row, length in zip(windows.item_index, windows.length, strict=True)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--streaming", type=Path, help="run of a streaming encoder on this data")
    chosen = parser.parse_args()
    dataset = load_dataset(chosen.data)
    model = load_model(PACKAGED, data=dataset, device="cpu")
    rng = np.random.default_rng(0)

    def some(split: str) -> np.ndarray:
        users = dataset.users(split)  # type: ignore[arg-type]
        longer = users[dataset.interactions.lengths[users] > chosen.window]
        return rng.permutation(longer)[: chosen.users]

    learned, asked = (asked_of(dataset, some(split), chosen.window, rng) for split in ("train", "test"))
    matrix = dataset.category_matrix
    chosen_items = dataset.interactions.item_index
    share = matrix[chosen_items].mean(axis=0)
    attack = Attack(learned, asked, matrix, share)
    first, second = (
        counts_of(one.windows.interactions(), matrix, dataset.info.rating_values) for one in (learned, asked)
    )
    task = load_task(model.settings.task, dataset.info)
    full = category_statistics(dataset.interactions, matrix, dataset.rating_values)

    def liked(users: np.ndarray) -> np.ndarray:
        return task.labels(full[users]).membership(len(dataset.categories))[..., 0]

    truth = liked(asked.users)

    def worth(counts: CategoryCounts) -> float:
        inputs = PopulationInputs.of([model.summary])
        logits = read_in_batches(model.user_encoder.network, counts, inputs)
        marks = window_marks(Seen.of(counts, inputs), inputs)
        decisions = model.summary.usual_decisions
        said, _ = decide(logits, marks, counts.length.numpy(), decisions, model.summary.max_labels)
        return weighted_f1(truth, said.membership(truth.shape[1])[..., 0])

    print(f"{len(asked.users)} test users of {dataset.info.name}, {chosen.window} random events each\n")
    print("| what the attacker holds | AUC | found at 1% | liked F1 |")
    print("|---|---:|---:|---:|")
    newest = min(50 / chosen.window, 1)
    print(f"| the part `recent` | it lists the newest 50 | {newest:.0%} | |")
    print(f"| the part `counts` | {told(attack.by_counts(first, second))} | {worth(second):.3f} |")
    prompts = (prompts_of(model, one.windows) for one in (learned, asked))
    print(f"| the user prompt | {told(attack.by_prompts(*prompts))} | |")
    for scale, multiple in ((1, 1), (2, 1), (4, 1), (0, 2), (0, 4), (0, 8)):
        noisy = [with_noise(one, scale, multiple, seed) for seed, one in enumerate((first, second))]
        name = f"noise of scale {scale}" if scale else f"rounding to multiples of {multiple}"
        print(
            f"| `counts` with {name} | {told(attack.by_counts(*noisy))} | {worth(noisy[1]):.3f} |", flush=True
        )
    if chosen.streaming is not None:
        more = asked_of(dataset, dataset.users("train"), chosen.window, rng)
        attack_streaming(load_model(chosen.streaming, device="cpu"), more, asked, (liked(more.users), truth))


if __name__ == "__main__":
    main()
