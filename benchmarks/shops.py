"""Generates synthetic shops with other kinds of users than those that encoders are pretrained on.

    python benchmarks/shops.py OUT     writes OUT/NAME/events.csv and items.csv of each shop

sessions: items are in a latent space, tags are regions of it; a user walks from item to item by similarity and
popularity, and rates with 1 to 5 stars, often 5 or 1, by the distance from two or three favourite points.
taxonomy: 6 departments with 4 aisles of 3 shelves each, and 30 attributes; an item has all three levels and 1 to 3
attributes; a few likes and dislikes at any level determine purchases and half-star ratings.
groceries: 12 aisles and 4 labels, no ratings; a household fills baskets by its needs, mostly with earlier purchases.
books: genre, mood and era, 30 tags; a few bestsellers are read by most users, tastes drift over the years, and 1 to 5
stars depend on the reader's severity.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from palate.data.prepare import prepare
from palate.schema import Bools


def sessions(
    users: int = 2000, items: int = 1200, tags: int = 26, seed: int = 11
) -> tuple[Bools, pl.DataFrame]:
    """Generate the session shop: item tags [I, L], and the events."""
    rng = np.random.default_rng(seed)
    size = 8
    place = rng.standard_t(6, (items, size)) / 1.5
    centre = rng.standard_t(6, (tags, size)) / 1.5
    near = (
        -((place[:, None] - centre) ** 2).sum(-1) / 3
        + rng.normal(0, 0.4, (items, tags))
        + rng.normal(0, 0.7, tags)
    )
    number = 1 + rng.binomial(3, 0.3, items)
    has = np.argsort(np.argsort(-near, 1), 1) < number[:, None]
    popularity = rng.pareto(1.8, items).clip(max=20)
    quality = rng.normal(0, 0.35, items)
    likeness = np.exp(-((place[:, None] - place) ** 2).sum(-1) / 2.5)
    steps = likeness * (0.2 + popularity)
    rows = []
    for user in range(users):
        favourites = place[rng.choice(items, rng.integers(2, 4))] + rng.normal(0, 0.5, (1, size))
        close = -np.sqrt(((place[:, None] - favourites) ** 2).sum(-1)).min(1)
        start = (0.2 + popularity) * np.exp(1.6 * close / close.std())
        length = int(np.clip(20 + rng.gamma(0.8, 70), 20, 500))
        free, at, order = np.ones(items, bool), -1, []
        for _ in range(length):
            weight = (start if at < 0 or rng.random() < 0.25 else steps[at]) * free
            at = int(np.searchsorted(np.cumsum(weight), rng.random() * weight.sum()).clip(max=items - 1))
            if not free[at]:
                at = int(rng.choice(np.flatnonzero(free)))
            free[at] = False
            order.append(at)
        picked = np.array(order)
        own = rng.normal(0, 0.5)
        liking = (
            own
            + rng.uniform(0.4, 1.3) * (close[picked] - close.mean())
            + quality[picked]
            + rng.logistic(0, 0.55, length)
        )
        stars = 1 + (liking[:, None] > np.array([-1.3, -0.9, -0.2, 0.5])).sum(1)
        rows.append(
            pl.DataFrame(
                {
                    "user_id": f"s{user}",
                    "item_id": picked,
                    "rating": stars.astype(float),
                    "time": np.arange(length),
                }
            )
        )
    return has, pl.concat(rows)


def taxonomy(users: int = 1500, items: int = 2500, seed: int = 12) -> tuple[Bools, pl.DataFrame]:
    """Generate the shop with nested tags: item tags [I, L], and the events."""
    rng = np.random.default_rng(seed)
    shelves, attributes = 72, 30
    weight = rng.dirichlet(np.full(shelves, 0.8))
    shelf = rng.choice(shelves, items, p=weight)
    has = np.zeros((items, 6 + 24 + shelves + attributes), bool)
    rows = np.arange(items)
    has[rows, shelf // 12] = has[rows, 6 + shelf // 3] = has[rows, 30 + shelf] = True
    common = rng.dirichlet(np.full(attributes, 0.7))
    for item in range(items):
        many = rng.integers(1, 4)
        has[item, 102 + rng.choice(attributes, many, replace=False, p=0.9 * common + 0.1 / attributes)] = True
    usual = rng.laplace(0, 0.12, has.shape[1])
    draw = np.exp(rng.normal(0, 1.1, items))
    events = []
    for user in range(users):
        taste = usual + rng.laplace(0, 0.35, has.shape[1]) * (rng.random(has.shape[1]) < 0.3)
        liking = has @ taste
        department = rng.dirichlet(np.full(6, 0.7))[shelf // 12]
        length = int(np.clip(rng.lognormal(4.2, 0.8), 20, 700))
        want = draw * (0.03 + department) * np.exp(0.7 * liking)
        picked = np.argsort(-(np.log(want) + rng.gumbel(0, 1, items)))[:length]
        rng.shuffle(picked)
        drift = np.linspace(0, rng.normal(0, 0.3), length)
        felt = (
            3.6
            + rng.normal(0, 0.35)
            + drift
            + liking[picked]
            + rng.uniform(0.4, 1.0) * rng.normal(0, 1, length)
        )
        stars = np.clip(np.round(felt * 2) / 2, 0.5, 5)
        events.append(
            pl.DataFrame(
                {"user_id": f"t{user}", "item_id": picked, "rating": stars, "time": np.arange(length)}
            )
        )
    return has, pl.concat(events)


def groceries(users: int = 1600, items: int = 900, seed: int = 13) -> tuple[Bools, pl.DataFrame]:
    """Generate the grocery shop: item tags [I, L], and the purchases, without ratings."""
    rng = np.random.default_rng(seed)
    aisles, labels, known = 12, 4, 0.65
    aisle = rng.choice(aisles, items, p=rng.dirichlet(np.full(aisles, 3.0)))
    has = np.zeros((items, aisles + labels), bool)
    has[np.arange(items), aisle] = True
    has[:, aisles:] = rng.random((items, labels)) < rng.beta(1, 3, (aisles, labels))[aisle]
    draw = rng.gamma(0.5, 1.0, items) + 0.01
    need = rng.dirichlet(np.full(aisles, 2.0))
    events = []
    for user in range(users):
        own = rng.dirichlet(8 * need + 0.1)
        liking = rng.normal(0, 0.8, labels)
        want = draw * own[aisle] * np.exp(has[:, aisles:] @ liking)
        want /= want.sum()
        bought = int(np.clip(rng.lognormal(5.5, 0.9), 30, 2000))
        fresh = rng.choice(items, bought, p=want)
        order: list[int] = []
        for place in range(bought):
            again = order and rng.random() < known
            order.append(order[int(rng.integers(len(order)))] if again else int(fresh[place]))
        day = np.sort(rng.integers(0, 365, 1 + bought // 9))[np.arange(bought) // 9]
        events.append(pl.DataFrame({"user_id": f"g{user}", "item_id": order, "time": day}))
    return has, pl.concat(events)


def books(users: int = 1500, items: int = 3000, seed: int = 14) -> tuple[Bools, pl.DataFrame]:
    """Generate the book shop: item tags [I, L], and the events."""
    rng = np.random.default_rng(seed)
    facets = (14, 10, 6)  # genres, moods and eras
    tags, blocks = sum(facets), []
    for size, most in zip(facets, (2, 2, 1), strict=True):
        weight = rng.dirichlet(np.full(size, 1.2)) * 0.95 + 0.05 / size
        score = np.log(weight) + rng.gumbel(0, 1, (items, size))
        blocks.append(np.argsort(np.argsort(-score, 1), 1) < rng.integers(1, most + 1, items)[:, None])
    has = np.concatenate(blocks, axis=1)
    popularity = 1 / (1 + rng.permutation(items)) ** 0.9
    quality = rng.normal(0, 0.3, items) + 0.1 * np.log(popularity / popularity.mean()).clip(-3, 3)
    trend = rng.normal(0, 0.3, (2, tags))
    events = []
    for user in range(users):
        length = int(np.clip(18 + rng.gamma(0.7, 90), 20, 600))
        first, last = rng.standard_t(4, tags) * 0.4, rng.standard_t(4, tags) * 0.4
        steps = np.linspace(0, 1, 8)
        free, order, felt = np.ones(items, bool), [], []
        for part, share in zip(np.array_split(np.arange(length), len(steps)), steps, strict=True):
            taste = first * (1 - 0.6 * share) + last * 0.6 * share + trend[0] * (1 - share) + trend[1] * share
            liking = has @ taste
            key = np.log(popularity) + 0.6 * liking + rng.gumbel(0, 1, items)
            picked = np.argsort(np.where(free, -key, np.inf))[: len(part)]
            free[picked] = False
            order.append(picked)
            felt.append(liking[picked] + quality[picked])
        mood = rng.normal(-0.4, 0.6) + np.concatenate(felt) + rng.normal(0, rng.uniform(0.5, 1.1), length)
        stars = 1 + (mood[:, None] > np.array([-2.2, -1.3, -0.3, 0.9])).sum(1)
        events.append(
            pl.DataFrame(
                {
                    "user_id": f"b{user}",
                    "item_id": np.concatenate(order),
                    "rating": stars.astype(float),
                    "time": np.arange(length),
                }
            )
        )
    return has, pl.concat(events)


SHOPS = {"sessions": sessions, "taxonomy": taxonomy, "groceries": groceries, "books": books}


def write_shop(folder: Path, has: Bools, events: pl.DataFrame) -> None:
    """Write items.csv and events.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"tag {number:03d}" for number in range(has.shape[1])]
    of_item = ["|".join(names[at] for at in np.flatnonzero(row)) for row in has]
    items = pl.DataFrame(
        {
            "item_id": np.arange(len(has)),
            "title": [f"Item {i}" for i in range(len(has))],
            "categories": of_item,
        }
    )
    items.write_csv(folder / "items.csv")
    events.write_csv(folder / "events.csv")


def prepared_shops(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Generate and prepare shops below a folder; return their datasets' folders by name."""
    places = {}
    for name in names:
        shop = folder / name
        write_shop(shop, *SHOPS[name]())
        places[name] = shop / "data"
        prepare(shop / "events.csv", places[name], items=shop / "items.csv")
    return places


def main() -> None:
    """Write all shops."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for name, make in SHOPS.items():
        write_shop(Path(sys.argv[1]) / name, *make())


if __name__ == "__main__":
    main()
