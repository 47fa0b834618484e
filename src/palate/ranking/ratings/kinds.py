"""Registers palate's rating predictors, with the settings that tuning tries, in that order."""

from __future__ import annotations

from palate.config.registry import RankerKind, rating_predictors
from palate.ranking.ratings.biased_mf import BiasedMf, BiasedMfSettings
from palate.ranking.ratings.item_mean import ItemMean, ItemMeanSettings
from palate.ranking.ratings.recommender import RecommenderRatings, RecommenderRatingsSettings

rating_predictors.register(
    "item-mean",
    RankerKind(
        ItemMeanSettings,
        ItemMean,
        (
            {},
            {"offset_shrinkage": 10.0},
            {"shrinkage": 10.0},
            {"shrinkage": 20.0, "offset_shrinkage": 10.0},
            {"shrinkage": 2.0},
            {"shrinkage": 10.0, "offset_shrinkage": 20.0},
        ),
    ),
)
rating_predictors.register(
    "biased-mf",
    RankerKind(
        BiasedMfSettings,
        BiasedMf,
        (
            {},
            {"regularization": 12.0},
            {"factors": 8},
            {"factors": 8, "regularization": 20.0, "offset_regularization": 10.0},
            {"factors": 8, "regularization": 5.0, "offset_regularization": 3.0},
            {"factors": 32, "regularization": 12.0},
        ),
    ),
)
rating_predictors.register("recommender", RankerKind(RecommenderRatingsSettings, RecommenderRatings))
