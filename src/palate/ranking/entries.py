"""Parses rankers given by name, by name with settings (``item-knn:decay=0.8``), or as a run's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from palate.config import registry
from palate.config.section import KindSettings
from palate.errors import MismatchError, RecipeError, did_you_mean, fault_message
from palate.ranking.recommender import TrainedRecommender
from palate.recommend.files import load_recommender, recommender_run
from palate.runs.run import RunFolder, load_run, run_folder

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import RankingProtocol


@dataclass(frozen=True)
class RankerEntry:
    """A ranker to compare: its name, kind, and candidate settings."""

    name: str
    kind: registry.RankerKind
    settings: tuple[KindSettings, ...]
    run: RunFolder | None = None
    """Run of an already trained recommender."""

    @classmethod
    def of_ranker(cls, name: str, build: Callable[[], Any], run: RunFolder | None = None) -> RankerEntry:
        """Build the entry of a ranker or rating predictor without settings."""
        kind = registry.RankerKind(KindSettings, lambda settings: build())
        return cls(name, kind, (KindSettings(kind=name),), run)


def find_entry(
    text: str, trials: int, kinds: registry.Registry[registry.RankerKind] = registry.rankers
) -> RankerEntry:
    """Parse an entry and look up its ranker or rating predictor.

    Args:
        text: Name of a kind, with settings or tuned without: ``item-knn:decay=0.8,shrinkage=20``. Or the folder of a
            recommender's run; of a generative one also with decoding settings: ``runs/p5:decoding=beams``.
        trials: Maximum number of settings that tuning may try.
        kinds: Registry of rankers or of rating predictors.

    Raises:
        RecipeError: The kind or setting does not exist, or a value is invalid.
        DataError: The folder is not a finished run of a recommender.
    """
    name, colon, given = text.partition(":")
    if name not in kinds and (run_kind := _run_kind(Path(name).expanduser())) is not None:
        return _run_entry(text, run_kind, load_run(Path(name).expanduser()), given)
    if name not in kinds and ("/" in text or Path(text).is_dir()):
        run = load_run(recommender_run(text))
        recommender = load_recommender(run.path)
        return RankerEntry.of_ranker(text, lambda: TrainedRecommender(recommender), run)
    kind = kinds.find(name)
    if not colon:
        tried = kind.trials[:trials]
        return RankerEntry(text, kind, tuple(kind.settings.model_validate(dict(one)) for one in tried))
    return RankerEntry(text, kind, (_settings(name, kind.settings, given),))


def _run_kind(folder: Path) -> registry.RunKind | None:
    """Return the registered kind of a run by its recipe's section; None for other runs."""
    run = run_folder(folder)
    if not run.there:
        return None
    return registry.run_kind_of(run.recipe)


def _run_entry(text: str, kind: registry.RunKind, run: RunFolder, given: str) -> RankerEntry:
    """Load a run of a registered kind, with its decoding settings."""
    question = _settings(text, kind.settings, given) if given else kind.settings.model_validate({})
    loaded = kind.load(run.path, question)
    return RankerEntry(text, registry.RankerKind(kind.settings, lambda settings: loaded), (question,), run)


def check_trained_on(
    run: RunFolder, dataset: Dataset, training: Dataset, protocol: RankingProtocol, seed: int
) -> None:
    """Check that a run was trained only on what a protocol allows.

    Args:
        run: Run to check.
        dataset: Dataset to evaluate on.
        training: The protocol's training view of that dataset.
        protocol: Protocol of the evaluation.
        seed: Seed of the protocol's random choices.

    Raises:
        MismatchError: The run was trained on other data, or on test targets.
    """
    trained_on, recipe = run.manifest.data_fingerprint, run.recipe
    if trained_on == training.info.fingerprint:
        return
    again = f"train it with --set data.protocol={protocol}"
    if trained_on != dataset.info.fingerprint:
        raise MismatchError(
            f"{run.path} was trained on {run.manifest.data_name} ({trained_on[:14]}), but the data to evaluate on is "
            f"{dataset.info.name} ({dataset.info.fingerprint[:14]}); {again} on this data"
        )
    learned_by = recipe.data.protocol or "new-users"  # the default trains on the training users alone
    if protocol == "cold-items" and learned_by == protocol and recipe.seed != seed:
        raise MismatchError(
            f"{run.path} was trained without the cold items of seed {recipe.seed}, but those of seed {seed} are "
            f"ranked; rank with --seed {recipe.seed}, or train it with --set seed={seed} into a new folder"
        )
    if learned_by != protocol:
        raise MismatchError(
            f"{run.path} was trained on targets of {protocol}: its recipe has data.protocol "
            f"{recipe.data.protocol or 'null'}; {again} into a new folder, or name the ranker recommender, which is "
            "trained here"
        )


def settings_in_words(settings: KindSettings) -> str:
    """Format settings as they are given: ``shrinkage=5, decay=0.5``."""
    return written_settings(settings.model_dump(exclude={"kind"}))


def written_settings(values: Mapping[str, Any]) -> str:
    """Format the values of settings as they are given."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _settings(name: str, settings: type[KindSettings], given: str) -> KindSettings:
    values: dict[str, Any] = {}
    known = [key for key in settings.model_fields if key != "kind"]
    for part in given.split(","):
        key, equals, value = (side.strip() for side in part.partition("="))
        if not equals or key not in known:
            there = f"the settings are {', '.join(known)}" if known else "it has no settings"
            raise RecipeError(
                f"{name}: found {part.strip()!r}, expected setting=value; {there}{did_you_mean(key, known)}"
            )
        values[key] = value
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {fault_message(one)}" for one in error.errors())
        raise RecipeError(f"{name}: {said}") from None


def check_named_once(entries: Sequence[RankerEntry], versus: str | None, noun: str, example: str) -> None:
    """Raise :class:`RecipeError` if there are no entries, a name repeats, or ``versus`` is not one of the names.

    Args:
        entries: Entries to compare.
        versus: Name of the entry that the others are compared with, if given.
        noun: Noun for an entry in messages.
        example: Example of a valid name, for messages.
    """
    names = [one.name for one in entries]
    if not names:
        raise RecipeError(f"no {noun}; name at least one, such as {example}")
    if len(set(names)) < len(names):
        raise RecipeError(f"a {noun} is named twice in {', '.join(names)}; name each once")
    if versus is not None and versus not in names:
        raise RecipeError(f"no {noun} {versus!r} to compare with; there are {', '.join(names)}")
