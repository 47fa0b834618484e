"""Registries of user encoders, tasks, predictors, rankers and rating predictors.

A kind is registered by a call (:func:`register_user_encoder`, :func:`register_task`, :func:`register_predictor`,
:func:`register_ranker`) or by the entry point of an installed package, in the group ``palate.user_encoders``,
``palate.tasks``, ``palate.predictors`` or ``palate.rankers``: its name is the kind, its value a function without
arguments that makes the call. Recipes, saved models and the command line look kinds up here by name; no module that
such a file names is imported.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import create_model

from palate.config.section import KindSettings
from palate.errors import ConflictError, RecipeError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from palate.config.recipe import Recipe
    from palate.data.dataset import Dataset
    from palate.encoders.base import EncoderSizes
    from palate.evaluation.predictors.base import ModelPredictor, Predictor
    from palate.ranking.base import Ranker
    from palate.runs.run import RunFolder
    from palate.schema import WindowKind
    from palate.tasks.category_preference import CategoryPreference

Entry = TypeVar("Entry")
Reads: TypeAlias = Literal["vectors", "texts", "categories", "vectors and categories"]
"""Inputs of a user encoder for an item."""


class Registry(Generic[Entry]):
    """The registered kinds of one component.

    Args:
        noun: Noun for the component in messages.
        group: Entry point group of installed packages' kinds.
        builtins: Module that registers palate's own kinds, imported on first look-up.
    """

    def __init__(self, noun: str, group: str, builtins: str) -> None:
        self.noun, self.group = noun, group
        self._builtins: str | None = builtins
        self._entries: dict[str, Entry] = {}

    def register(self, kind: str, entry: Entry) -> None:
        """Register a kind; registering the same entry again has no effect.

        Raises:
            ConflictError: The name is registered for another entry.
        """
        if not kind or not isinstance(kind, str):
            raise ConflictError(f"a {self.noun} needs a name, found {kind!r}")
        self._load_builtins()
        if self._entries.setdefault(kind, entry) != entry:
            raise ConflictError(f"the {self.noun} {kind!r} is already registered; use another name")

    def find(self, kind: str) -> Entry:
        """Look up a kind, including those of installed packages.

        Raises:
            RecipeError: The kind is not registered.
        """
        self._load_builtins()
        if kind not in self._entries and (offer := self._offers().get(kind)) is not None:
            offer.load()()
        if kind not in self._entries:
            raise RecipeError(self.absent(kind))
        return self._entries[kind]

    def __contains__(self, kind: object) -> bool:
        self._load_builtins()
        return kind in self._entries or kind in self._offers()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of all kinds, palate's own first."""
        self._load_builtins()
        return tuple(dict.fromkeys([*self._entries, *self._offers()]))

    def absent(self, kind: object) -> str:
        """Format the message for a kind that is not registered."""
        close = difflib.get_close_matches(str(kind).lower(), self.kinds, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "install the package that provides it"
        return f"there is no {self.noun} {kind!r}; registered are {', '.join(self.kinds)}; {hint}"

    def _offers(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _load_builtins(self) -> None:
        if self._builtins is not None:
            module, self._builtins = self._builtins, None  # importing it calls register, which calls this
            import_module(module)


@dataclass(frozen=True)
class UserEncoderKind:
    """Settings of a kind of user encoder, and its factory, which is None for the text history."""

    settings: type[KindSettings]
    build: Callable[[Any, EncoderSizes], nn.Module] | None
    reads: Reads = "vectors"


@dataclass(frozen=True)
class TaskKind:
    """Settings of a kind of task and its factory."""

    settings: type[KindSettings]
    build: Callable[..., CategoryPreference]


@dataclass(frozen=True)
class RankerKind:
    """Settings of a kind of ranker or rating predictor, its factory, and tuning trials, likeliest first."""

    settings: type[KindSettings]
    build: Callable[[Any], Any]
    trials: tuple[Mapping[str, Any], ...] = ({},)


@dataclass(frozen=True)
class RunKind:
    """A kind of run that ``palate rank`` accepts by its folder, named after its section of the recipe."""

    settings: type[KindSettings]
    load: Callable[[Path, Any], Any]
    """Loads a ranker, a rating predictor or both from a run's folder and the settings."""
    answers: Callable[[RunFolder, str, Dataset, CategoryPreference, AnswerOptions], ModelPredictor] | None = (
        None
    )
    """Creates the predictor of answers about categories from a run, its name in tables, the dataset, the task and
    options; None if such runs have none. Raises :class:`RecipeError` for a run that was not trained for it."""


@dataclass(frozen=True)
class AnswerOptions:
    """Options for answers about categories by a run of :class:`RunKind`."""

    device: str | torch.device = "auto"
    constrained: bool | None = None
    """Whether decoding is constrained to valid answers; by the run's recipe if None."""


def run_kind_of(recipe: Recipe) -> RunKind | None:
    """Find the registered kind of a run by its recipe's sections; None if there is none."""
    found = next((kind for kind in run_kinds.kinds if getattr(recipe, kind, None) is not None), None)
    return None if found is None else run_kinds.find(found)


PredictorFactory = Callable[["Dataset", "CategoryPreference", "WindowKind"], "Predictor"]

user_encoders: Registry[UserEncoderKind] = Registry(
    "user encoder", "palate.user_encoders", "palate.encoders.kinds"
)
tasks: Registry[TaskKind] = Registry("task", "palate.tasks", "palate.tasks.kinds")
predictors: Registry[PredictorFactory] = Registry(
    "reference", "palate.predictors", "palate.evaluation.predictors.references"
)
rankers: Registry[RankerKind] = Registry("ranker", "palate.rankers", "palate.ranking.references.kinds")
run_kinds: Registry[RunKind] = Registry("kind of run", "palate.run_kinds", "palate.generative.kinds")
rating_predictors: Registry[RankerKind] = Registry(
    "rating predictor", "palate.rating_predictors", "palate.ranking.ratings.kinds"
)


def register_user_encoder(
    kind: str, encoder: Callable[[Any, EncoderSizes], nn.Module], settings: type[KindSettings]
) -> None:
    """Register a user encoder, for use as ``model.user_encoder.kind`` in recipes.

    Args:
        kind: Its name.
        encoder: Class or function that takes the settings and :class:`EncoderSizes` and returns a module with
            ``forward(events: EventBatch) -> UserPrompt``.
        settings: Its settings: a subclass of :class:`KindSettings` in which every field has a default; ``kind`` is
            added.

    Raises:
        ConflictError: The name is already in use.

    Example:
        >>> class MeanSettings(palate.KindSettings):
        ...     scale: float = 1.0
        >>> palate.register_user_encoder("mean", MeanEncoder, MeanSettings)
        >>> palate.Recipe(model={"user_encoder": {"kind": "mean", "scale": 2}}).model.user_encoder.scale
        2.0
    """
    user_encoders.register(kind, UserEncoderKind(_with_kind(kind, settings), encoder))


def register_task(kind: str, task: type[CategoryPreference], settings: type[KindSettings]) -> None:
    """Register a task, for use as ``task.kind`` in recipes.

    Args:
        kind: Its name.
        task: A class with the interface of :class:`CategoryPreference`, or a subclass of it.
        settings: Its settings: a subclass of :class:`palate.config.recipe.TaskSettings`.

    Raises:
        ConflictError: The name is already in use.

    Example:
        >>> from palate.config.recipe import TaskSettings
        >>> palate.register_task("favourite", Favourite, TaskSettings)
        >>> palate.Recipe(task={"kind": "favourite"}).task.kind
        'favourite'
    """
    tasks.register(kind, TaskKind(_with_kind(kind, settings), task))


def register_predictor(name: str, build: PredictorFactory) -> None:
    """Register a reference predictor, for use by name in ``palate evaluate`` and :func:`palate.evaluate`.

    Args:
        name: Its name.
        build: Function that takes the dataset, the task and the kind of windows ("recent" or "random") of the
            evaluation and returns a predictor, fitted to the training users.

    Raises:
        ConflictError: The name is already in use.

    Example:
        >>> palate.register_predictor("says nothing", lambda dataset, task, kind: SaysNothing())
        >>> palate.evaluate(["says nothing", "rule"], data, windows=5).score("says nothing").value
        0.0
    """
    predictors.register(name, build)


def register_ranker(
    kind: str,
    build: Callable[[Any], Ranker],
    settings: type[KindSettings],
    trials: Sequence[Mapping[str, Any]] = ({},),
) -> None:
    """Register a ranker of items, for use by name in ``palate rank`` and :func:`palate.rank`.

    Args:
        kind: Its name.
        build: Class or function that takes the settings and returns a :class:`palate.ranking.base.Ranker`.
        settings: Its settings: a subclass of :class:`KindSettings` in which every field has a default; ``kind`` is
            added.
        trials: Settings that tuning tries, as differences from the defaults, the likeliest first.

    Raises:
        ConflictError: The name is already in use.

    Example:
        >>> class NewestSettings(palate.KindSettings):
        ...     weight: float = 1.0
        >>> palate.register_ranker("newest", NewestItems, NewestSettings)
        >>> palate.rank(["newest"], data).score("newest", "hr@10").value >= 0
        True
    """
    rankers.register(kind, RankerKind(_with_kind(kind, settings), build, tuple(trials)))


_made: dict[tuple[str, type[KindSettings]], type[KindSettings]] = {}


def _with_kind(kind: str, settings: type[KindSettings]) -> type[KindSettings]:
    """Add a field ``kind`` with this constant value to settings; returns the same class for the same arguments."""
    field = settings.model_fields.get("kind")
    if field is not None and field.default == kind:
        return settings
    if (kind, settings) not in _made:
        fields: dict[str, Any] = {"kind": (Literal[kind], kind)}
        _made[kind, settings] = create_model(
            settings.__name__, __base__=settings, __doc__=settings.__doc__, **fields
        )
    return _made[kind, settings]
