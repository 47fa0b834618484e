"""Loading of an answerer's parts: a recommender, a model that predicts categories, and the question matcher."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from palate.answers.answerer import Answerer
from palate.answers.tastes import views_of
from palate.config.recipe import ItemSettings
from palate.items.encoder import ItemEncoder
from palate.recommend.files import is_recommender, load_recommender, recommender_beside
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.system.extras import missing_modules
from palate.system.places import PACKAGED
from palate.tasks import too_few_categories
from palate.tasks.matching import QuestionMatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    import torch

    from palate.answers.tastes import TasteView
    from palate.answers.writer import SentenceWriter
    from palate.data.dataset import Dataset
    from palate.model.model import PersonalizedModel
    from palate.recommend.recommender import Recommender
    from palate.schema import History


@lru_cache(maxsize=1)
def question_matcher() -> QuestionMatcher:
    """Create the question matcher: with the sentence encoder if installed, or else by words and characters only."""
    if missing_modules("minilm"):
        return QuestionMatcher()
    encoder = ItemEncoder(ItemSettings(), "cpu")
    return QuestionMatcher(encoder.encode, encoder.fresh)


@dataclass(frozen=True, eq=False)
class PackagedViews:
    """Category probabilities by the packaged model, which is loaded and bound to a dataset on first use."""

    dataset: Dataset
    device: str | torch.device

    @cached_property
    def model(self) -> PersonalizedModel:
        """The model, bound to the dataset."""
        from palate.model.model import load_model

        return load_model(PACKAGED, data=self.dataset, device=self.device)

    def __call__(self, histories: Sequence[History]) -> list[TasteView]:
        """Compute category probabilities of histories."""
        return views_of(self.model, histories)


def answerer_of(
    model: PersonalizedModel | None,
    recommender: Recommender | None,
    field: str = "category",
    items: pl.DataFrame | None = None,
    writer: SentenceWriter | None = None,
) -> Answerer:
    """Create an answerer from a model, a recommender or both.

    Args:
        model: A model with the recommender's catalogue; its views are used if its user encoder predicts categories.
        recommender: The recommender; None without one.
        field: Noun for a category, if there is no model.
        items: Table of the items that questions may name, if there is no recommender.
        writer: Writes the sentences; None for templates.
    """
    if model is None:
        return Answerer(recommender, question_matcher, field=field, items=items, writer=writer)
    settings = model.settings
    views = partial(views_of, model) if model.has_view else None
    field = settings.category_field
    return Answerer(recommender, question_matcher, settings.categories, field, views, items, writer)


def load_answerer(
    run: Path | str,
    recommender: Path | str | None = None,
    *,
    data: Dataset | Path | str | None = None,
    device: str | torch.device = "auto",
    writer: str | SentenceWriter | None = None,
) -> Answerer:
    """Load an answerer of free-text questions about users.

    Args:
        run: Run of a recommender, or of a language model whose user encoder predicts categories.
        recommender: Run of a recommender on the same data, to use with a language model; None for the one that was
            trained with the model.
        data: The dataset, or its folder; None for the run's own.
        device: Device of the model; ``auto`` takes the first GPU.
        writer: A pretrained decoder-only model that writes the sentences: a hub name, a folder, a file ``*.gguf``,
            ``packaged:gemma3-270m``, or ``own`` for the backbone of the run's model; None for templates.

    Returns:
        The answerer. For a recommender's run it also uses the packaged model, bound to the run's data, if the data has
        at least two categories.

    Raises:
        DataError: A run or the data cannot be read.
        MismatchError: A model and the data do not belong together.

    Example:
        >>> answerer = palate.load_answerer("runs/recommender")
        >>> history = palate.History("me", ["3", "8"], [5.0, 2.0], [1704067200, 1704153600])
        >>> answerer.answer([history], "What should I recommend to this user?")[0].kind
        'recommendation'
    """
    if not is_recommender(run):
        from palate.model.model import load_model

        recommender = recommender or recommender_beside(run)
        found = None if recommender is None else load_recommender(recommender)
        model = load_model(run, data=data, device=device)
        return answerer_of(model, found, writer=_found(writer, device, model))
    given = Path(data).expanduser() if isinstance(data, str | Path) else None
    dataset = dataset_of(load_run(Path(run).expanduser()), given) if data is None or given else data
    assert not isinstance(dataset, str | Path)
    writing = _found(writer, device)
    field = dataset.info.category_field
    if too_few_categories(dataset.info.categories):
        return answerer_of(None, load_recommender(run), field, writer=writing)
    scores = load_recommender(run)
    views = PackagedViews(dataset, device)
    return Answerer(scores, question_matcher, field=field, views=views, writer=writing)


def _found(
    writer: str | SentenceWriter | None, device: str | torch.device, model: PersonalizedModel | None = None
) -> SentenceWriter | None:
    if not isinstance(writer, str):
        return writer
    from palate.answers.writer import load_writer

    return load_writer(writer, device, model)
