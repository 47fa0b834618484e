"""Registries of what can be added to palate from outside: user encoders, tasks and predictors, by their kind.

A kind is registered by a call (:func:`register_user_encoder`, :func:`register_task`, :func:`register_predictor`) or
by an installed package, whose entry point in the group ``palate.user_encoders``, ``palate.tasks`` or
``palate.predictors`` bears the kind's name and points to a function without arguments that makes the call. Recipes,
saved models and the command line look kinds up here by name; nothing that such a file names is ever imported.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import create_model

from palate.config.section import KindSettings
from palate.errors import ConflictError, RecipeError

if TYPE_CHECKING:
    from torch import nn

    from palate.data.dataset import Dataset
    from palate.encoders.base import EncoderSizes
    from palate.evaluation.predictors.base import Predictor
    from palate.schema import WindowKind
    from palate.tasks.category_preference import CategoryPreference

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """What kinds of one thing there are.

    Args:
        noun: What a kind is a kind of, for messages.
        group: The group of entry points in which installed packages offer kinds.
        builtins: The module that registers palate's own kinds, imported at the first look-up.
    """

    def __init__(self, noun: str, group: str, builtins: str) -> None:
        self.noun, self.group = noun, group
        self._builtins: str | None = builtins
        self._entries: dict[str, Entry] = {}

    def register(self, kind: str, entry: Entry) -> None:
        """Add a kind; registering the same entry again changes nothing.

        Raises:
            ConflictError: The kind stands for something else already.
        """
        if not kind or not isinstance(kind, str):
            raise ConflictError(f"a {self.noun} needs a name, found {kind!r}")
        self._load_builtins()
        if self._entries.setdefault(kind, entry) != entry:
            raise ConflictError(f"the {self.noun} {kind!r} is registered already; give yours another name")

    def find(self, kind: str) -> Entry:
        """Look a kind up, among those of installed packages too.

        Raises:
            RecipeError: No such kind is registered.
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
        """The names of all kinds, palate's own first."""
        self._load_builtins()
        return tuple(dict.fromkeys([*self._entries, *self._offers()]))

    def absent(self, kind: object) -> str:
        """Say that a kind is not registered, and what to do."""
        close = difflib.get_close_matches(str(kind).lower(), self.kinds, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "a package that brings it must be installed"
        return f"there is no {self.noun} {kind!r}; registered are {', '.join(self.kinds)}; {hint}"

    def _offers(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _load_builtins(self) -> None:
        if self._builtins is not None:
            module, self._builtins = self._builtins, None  # it registers, and comes by here
            import_module(module)


@dataclass(frozen=True)
class UserEncoderKind:
    """Settings, and what builds a user encoder from them; None where no user encoder is needed."""

    settings: type[KindSettings]
    build: Callable[[Any, EncoderSizes], nn.Module] | None


@dataclass(frozen=True)
class TaskKind:
    """Settings, and what makes the task of a dataset's categories from them."""

    settings: type[KindSettings]
    build: Callable[..., CategoryPreference]


PredictorFactory = Callable[["Dataset", "CategoryPreference", "WindowKind"], "Predictor"]

user_encoders: Registry[UserEncoderKind] = Registry(
    "user encoder", "palate.user_encoders", "palate.encoders.kinds"
)
tasks: Registry[TaskKind] = Registry("task", "palate.tasks", "palate.tasks.kinds")
predictors: Registry[PredictorFactory] = Registry(
    "reference", "palate.predictors", "palate.evaluation.predictors.references"
)


def register_user_encoder(
    kind: str, encoder: Callable[[Any, EncoderSizes], nn.Module], settings: type[KindSettings]
) -> None:
    """Add a user encoder that recipes name as ``model.user_encoder.kind``.

    Args:
        kind: Its name.
        encoder: Class or function that is given the settings and :class:`EncoderSizes` and returns a module with
            ``forward(events: EventBatch) -> UserPrompt``.
        settings: What a recipe may set, a subclass of :class:`KindSettings` with a default for each; ``kind`` is
            added.

    Raises:
        ConflictError: The kind stands for something else already.

    Example:
        >>> class MeanSettings(palate.KindSettings):
        ...     scale: float = 1.0
        >>> palate.register_user_encoder("mean", MeanEncoder, MeanSettings)  # doctest: +SKIP
    """
    user_encoders.register(kind, UserEncoderKind(_with_kind(kind, settings), encoder))


def register_task(kind: str, task: type[CategoryPreference], settings: type[KindSettings]) -> None:
    """Add a task that recipes name as ``task.kind``.

    Args:
        kind: Its name.
        task: A class like :class:`CategoryPreference`, which it may inherit from.
        settings: Its settings, a subclass of :class:`palate.config.recipe.TaskSettings`.

    Raises:
        ConflictError: The kind stands for something else already.
    """
    tasks.register(kind, TaskKind(_with_kind(kind, settings), task))


def register_predictor(name: str, build: PredictorFactory) -> None:
    """Add a reference that ``palate evaluate`` and :func:`palate.evaluation.evaluate` know by name.

    Args:
        name: Its name.
        build: Given the dataset, the task and the kind of windows ("recent" or "random") that it will be asked
            about; returns a predictor, fitted to the training users.

    Raises:
        ConflictError: The name stands for something else already.
    """
    predictors.register(name, build)


_made: dict[tuple[str, type[KindSettings]], type[KindSettings]] = {}


def _with_kind(kind: str, settings: type[KindSettings]) -> type[KindSettings]:
    """The settings with a field ``kind`` that is always this one; the same class for the same call."""
    field = settings.model_fields.get("kind")
    if field is not None and field.default == kind:
        return settings
    if (kind, settings) not in _made:
        fields: dict[str, Any] = {"kind": (Literal[kind], kind)}
        _made[kind, settings] = create_model(
            settings.__name__, __base__=settings, __doc__=settings.__doc__, **fields
        )
    return _made[kind, settings]
