"""palate: learns a user's taste from a long history and gives it to a language model as soft prompts.

The names below are loaded on first use: ``import palate`` loads neither torch nor polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palate.answers.answerer import Answerer
    from palate.answers.load import load_answerer
    from palate.client import Client
    from palate.config.load import load_recipe
    from palate.config.recipe import Recipe
    from palate.config.registry import (
        register_predictor,
        register_ranker,
        register_task,
        register_user_encoder,
    )
    from palate.config.section import KindSettings
    from palate.data.dataset import Dataset, load_dataset
    from palate.data.history_file import read_history
    from palate.data.prepare import prepare
    from palate.data.tabular.settings import OwnData
    from palate.errors import PalateError
    from palate.evaluation.results import EvaluationTable, evaluate
    from palate.export.read import read_prompts
    from palate.export.write import export_prompts
    from palate.model.model import PersonalizedModel, load_model
    from palate.ranking.compare import rank
    from palate.ranking.ratings.compare import RatingTable, score_ratings
    from palate.ranking.results import RankingTable
    from palate.recommend.files import load_recommender
    from palate.recommend.recommender import Recommender
    from palate.schema import History, Item
    from palate.training.from_python import train

__all__ = [
    "Answerer",
    "Client",
    "Dataset",
    "EvaluationTable",
    "History",
    "Item",
    "KindSettings",
    "OwnData",
    "PalateError",
    "PersonalizedModel",
    "RankingTable",
    "RatingTable",
    "Recipe",
    "Recommender",
    "evaluate",
    "export_prompts",
    "load_answerer",
    "load_dataset",
    "load_model",
    "load_recipe",
    "load_recommender",
    "prepare",
    "rank",
    "read_history",
    "read_prompts",
    "register_predictor",
    "register_ranker",
    "register_task",
    "register_user_encoder",
    "score_ratings",
    "train",
]

_MODULES = {
    "Answerer": "palate.answers.answerer",
    "Client": "palate.client",
    "Dataset": "palate.data.dataset",
    "EvaluationTable": "palate.evaluation.results",
    "History": "palate.schema",
    "Item": "palate.schema",
    "KindSettings": "palate.config.section",
    "OwnData": "palate.data.tabular.settings",
    "PalateError": "palate.errors",
    "PersonalizedModel": "palate.model.model",
    "RankingTable": "palate.ranking.results",
    "RatingTable": "palate.ranking.ratings.compare",
    "Recipe": "palate.config.recipe",
    "Recommender": "palate.recommend.recommender",
    "evaluate": "palate.evaluation.results",
    "export_prompts": "palate.export.write",
    "load_answerer": "palate.answers.load",
    "load_dataset": "palate.data.dataset",
    "load_model": "palate.model.model",
    "load_recipe": "palate.config.load",
    "load_recommender": "palate.recommend.files",
    "prepare": "palate.data.prepare",
    "rank": "palate.ranking.compare",
    "read_history": "palate.data.history_file",
    "read_prompts": "palate.export.read",
    "register_predictor": "palate.config.registry",
    "register_ranker": "palate.config.registry",
    "register_task": "palate.config.registry",
    "register_user_encoder": "palate.config.registry",
    "score_ratings": "palate.ranking.ratings.compare",
    "train": "palate.training.from_python",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'palate' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
