"""Registers palate's references with the settings that tuning tries, the likeliest first."""

from __future__ import annotations

from palate.config.registry import RankerKind, rankers
from palate.ranking.references.ease import Ease, EaseSettings
from palate.ranking.references.item_knn import ItemKnn, ItemKnnSettings
from palate.ranking.references.largest_id import LargestId, LargestIdSettings
from palate.ranking.references.popularity import Popularity, PopularitySettings

rankers.register("popularity", RankerKind(PopularitySettings, Popularity))
rankers.register(
    "item-knn",
    RankerKind(
        ItemKnnSettings,
        ItemKnn,
        (
            {},
            {"decay": 0.8},
            {"shrinkage": 20.0},
            {"shrinkage": 0.0},
            {"shrinkage": 20.0, "decay": 0.8},
            {"decay": 0.95},
            {"decay": 0.3},
            {"decay": 1.0},
        ),
    ),
)
rankers.register(
    "ease",
    RankerKind(
        EaseSettings,
        Ease,
        (
            {},
            {"regularization": 100.0},
            {"regularization": 300.0, "decay": 0.8},
            {"regularization": 300.0},
            {"regularization": 100.0, "decay": 0.5},
            {"regularization": 100.0, "decay": 0.8},
            {"regularization": 3000.0},
            {"regularization": 30.0, "decay": 0.5},
        ),
    ),
)
rankers.register("largest-id", RankerKind(LargestIdSettings, LargestId))
