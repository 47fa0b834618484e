"""Measures the time of ten recommendations from a stored state by catalogue size, exact and with an index.

python benchmarks/catalogue.py --items 10000 1000000 --threads 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl
from scipy import sparse
from threadpoolctl import threadpool_limits

from palate.data.storage import ITEM_COLUMNS
from palate.recommend.content import ItemContent
from palate.recommend.network import ItemNetwork, QueryNetwork
from palate.recommend.parts import CatalogueFacts
from palate.recommend.recommender import Recommender
from palate.recommend.relations import PairRelation, Relation, VectorRelation
from palate.recommend.scorer import EventWeights, RelationWeights, Scorer, ScorerWeights
from palate.schema import History

SIZE, NEIGHBOURS, EVENTS = 64, 50, 200
PER_GROUP = 100
"""Items per synthetic group; a group's vectors are close to each other."""
DECAYS = (0.0, 0.5, 0.8, 1.0)


def made_up(items: int, texts: bool, rng: np.random.Generator) -> Recommender:
    """Build a recommender with random relations and a random network, with or without texts."""
    groups = items // PER_GROUP

    def pairs() -> PairRelation:
        count = items * NEIGHBOURS
        entries = (rng.random(count, dtype=np.float32), rng.integers(0, items, count, dtype=np.int32))
        offsets = np.arange(0, count + 1, NEIGHBOURS, dtype=np.int64)
        return PairRelation(sparse.csr_matrix((*entries, offsets), shape=(items, items)))

    def array(*shape: int) -> np.ndarray:
        return rng.normal(0, SIZE**-0.5, shape).astype(np.float32)

    def vectors() -> np.ndarray:
        """Draw vectors around the centres of the items' groups."""
        return array(groups, SIZE)[np.arange(items) % groups] + 0.5 * array(items, SIZE)

    relations: dict[str, Relation] = {"cooccurrence": pairs(), "succession": pairs()}
    if texts:
        relations["texts"] = VectorRelation(vectors())
    sums = len(DECAYS) * SIZE
    query = QueryNetwork(array(sums, SIZE), array(sums, 2 * SIZE), array(2 * SIZE), array(2 * SIZE, SIZE))
    poolings = tuple(EventWeights(decay=decay) for decay in DECAYS)
    network = ItemNetwork(poolings, query, vectors(), array(items), array(0, SIZE), array(1))
    weights = ScorerWeights(relations=dict.fromkeys(relations, RelationWeights(weight=1.0)), network=0.3)
    popularity = rng.random(items, dtype=np.float32)
    scorer = Scorer(relations, popularity, np.zeros(1, np.float32), weights, network)
    ids = [str(index) for index in range(items)]
    table = pl.DataFrame(
        {
            "item_id": ids,
            "title": ids,
            "year": [None] * items,
            "categories": [[]] * items,
            "description": [None] * items,
        },
        schema=pl.Schema(ITEM_COLUMNS),
    )
    facts = CatalogueFacts(
        name="made-up",
        feedback="implicit",
        rating_values=(1.0,),
        like_above=1.5,
        item_noun="item",
        categories=(),
        history=1000,
        missing=(),
    )
    content = ItemContent((), None, array(0), array(0, 0), array(0), array(0, 0))
    return Recommender(facts, table, scorer, None, content)


def timed(action: Callable[[], object], repeats: int) -> str:
    """Return the median and minimum wall time of an action, and its median CPU time."""
    times, busy = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        action()
        times.append(1e3 * (time.perf_counter() - start))
        busy.append(1e3 * (time.process_time() - used))
    return f"median {np.median(times):.1f} ms, least {min(times):.1f} ms, processor {np.median(busy):.1f} ms"


def found_share(exact: Recommender, indexed: Recommender, items: int, rng: np.random.Generator) -> float:
    """Return the index's recall of the exact top ten, over fifty users."""
    users = []
    for user in range(50):
        chosen = [str(item) for item in rng.integers(0, items, 20)]
        users.append(exact.state(History(str(user), chosen, [1.0] * 20, list(range(20)))))
    pairs = zip(exact.recommend(users, k=10), indexed.recommend(users, k=10), strict=True)
    shares = [len({a.item_id for a in one.items} & {b.item_id for b in two.items}) / 10 for one, two in pairs]
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--index", action="store_true", help="also measure an index (needs faiss)")
    parser.add_argument("--repeats", type=int, default=30)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    for items in given.items:
        for texts in (False, True):
            what = f"{items:,} items with{'' if texts else 'out'} texts"
            recommender = made_up(items, texts, rng)
            chosen = [str(item) for item in rng.integers(0, items, EVENTS)]
            state = recommender.state(History("a", chosen, [1.0] * EVENTS, list(range(EVENTS))))
            with threadpool_limits(given.threads):
                exact = timed(partial(recommender.recommend, [state], k=10), given.repeats)
                print(f"{what}, exact: {exact}", flush=True)
                if given.index:
                    start = time.perf_counter()
                    indexed = recommender.with_index()
                    built = time.perf_counter() - start
                    found = timed(partial(indexed.recommend, [state], k=10), given.repeats)
                    recall = found_share(recommender, indexed, items, rng)
                    print(
                        f"{what}, index: {found}, recall@10 {recall:.3f}, built in {built:.0f} s",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
