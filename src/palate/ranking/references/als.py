"""ALS: matrix factorisation of implicit feedback (Hu, Koren and Volinsky, 2008), by ``implicit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from palate.config.section import KindSettings
from palate.ranking.base import DevNdcg, picked
from palate.ranking.references.histories import decayed_histories
from palate.recommend.relations import membership_matrix
from palate.schema import Floats, Indices, Windows
from palate.system.extras import missing_extra

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


class AlsSettings(KindSettings):
    """Settings of :class:`Als`."""

    kind: str = "als"
    factors: int = Field(64, ge=1)
    regularization: float = Field(0.1, ge=0)
    alpha: float = Field(10.0, gt=0)
    """Confidence of chosen items relative to the others."""
    iterations: int = Field(15, ge=1)
    decay: float = Field(1.0, gt=0, le=1)
    """Factor of a history item's weight for each newer one, in solving for a user's factors."""
    seed: int = Field(0, ge=0)


class Als:
    """Scores an item by the product of its factors and the user's, which are solved for from the history alone."""

    def __init__(self, settings: AlsSettings) -> None:
        self._settings = settings
        self._model: Any = None

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Factorise the training interactions; raises :class:`MissingExtraError` without ``implicit``."""
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError:
            raise missing_extra("als needs implicit", "ranking") from None
        settings = self._settings
        self._model = AlternatingLeastSquares(
            settings.factors,
            settings.regularization,
            settings.alpha,
            iterations=settings.iterations,
            num_threads=1,  # with several threads, sums differ from run to run
            random_state=settings.seed,
        )
        chosen = membership_matrix(dataset.interactions, len(dataset.items))
        self._model.fit(chosen, show_progress=False)

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Solve for the users' factors and multiply them by the items'."""
        items = self._model.item_factors
        histories = decayed_histories(windows, len(items), self._settings.decay).astype(np.float32)
        users = self._model.recalculate_user(np.arange(len(windows)), histories)
        return picked(np.asarray(users @ items.T), candidates)
