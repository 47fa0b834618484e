"""Registers palate's rankers, with the settings that tuning tries, in that order."""

from __future__ import annotations

from palate.config.registry import RankerKind, rankers
from palate.ranking.recommender import RecommenderRanker, RecommenderRankerSettings
from palate.ranking.references.als import Als, AlsSettings
from palate.ranking.references.content_knn import ContentKnn, ContentKnnSettings
from palate.ranking.references.ease import Ease, EaseSettings
from palate.ranking.references.item_knn import ItemKnn, ItemKnnSettings
from palate.ranking.references.largest_id import LargestId, LargestIdSettings
from palate.ranking.references.popularity import Popularity, PopularitySettings
from palate.ranking.references.sasrec import SasRec, SasRecSettings

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
    "content-knn",
    RankerKind(
        ContentKnnSettings,
        ContentKnn,
        (
            {},
            {"by": "texts"},
            {"by": "categories"},
            {"by": "texts", "power": 4.0},
            {"by": "texts", "power": 2.0},
            {"by": "texts", "power": 8.0},
            {"decay": 0.9},
            {"by": "texts", "decay": 0.9},
            {"by": "categories", "decay": 0.9},
            {"decay": 0.7},
            {"by": "texts", "decay": 0.7},
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
rankers.register("recommender", RankerKind(RecommenderRankerSettings, RecommenderRanker))
rankers.register("largest-id", RankerKind(LargestIdSettings, LargestId))
rankers.register(
    "als",
    RankerKind(
        AlsSettings,
        Als,
        (
            {},
            {"factors": 128},
            {"alpha": 1.0},
            {"factors": 128, "decay": 0.8},
            {"alpha": 40.0},
            {"factors": 256, "decay": 0.8},
            {"regularization": 1.0},
            {"factors": 32},
        ),
    ),
)
rankers.register(
    "sasrec",
    RankerKind(
        SasRecSettings,
        SasRec,
        (
            {},
            {"dropout": 0.3},
            {"hidden_size": 128},
            {"dropout": 0.2, "weight_decay": 0.1},
            {"learning_rate": 1e-3},
            {"layers": 1},
            {"hidden_size": 128, "dropout": 0.3},
            {"hidden_size": 256},
        ),
    ),
)
