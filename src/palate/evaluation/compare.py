"""Comparison of runs, models, controls and references on the same examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from palate.config import registry
from palate.config.load import dump_recipe
from palate.config.recipe import ItemSettings, Recipe, TaskSettings
from palate.data.dataset import Dataset, DatasetInfo, load_dataset
from palate.data.windows import make_examples
from palate.errors import DataError, MismatchError, PalateError, RecipeError
from palate.evaluation.evaluate import Evaluation, Setting, score_predictors
from palate.evaluation.metrics import label_frequencies
from palate.evaluation.predictors.base import ModelPredictor, Predictor, fitted_to
from palate.evaluation.predictors.controls import AnotherUsersHistory
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.evaluation.predictors.references import references
from palate.model.config import check_model, model_settings
from palate.runs.data import dataset_of
from palate.runs.run import RunFolder, load_run
from palate.schema import (
    TRUTHS,
    Examples,
    LabelRule,
    Split,
    Truth,
    UserChoice,
    WindowKind,
    Windows,
)
from palate.tasks import CategoryPreference, load_task

if TYPE_CHECKING:
    import torch

    from palate.model.model import PersonalizedModel
    from palate.system.engines import ShardEngine

Entry: TypeAlias = "str | Path | PersonalizedModel | Predictor"
"""A run's folder, ``packaged``, the name of a registered reference, a loaded model, or a predictor object."""
BESIDE_A_RUN = ("counting", "rule", "shrinkage")
"""References that are included with every run."""


@dataclass(frozen=True)
class Options:
    """Options of a comparison; None takes the value from the first run's recipe, or else the default."""

    data: Path | Dataset | None = None
    split: Split = "test"
    window: int | None = None
    window_kind: WindowKind | None = None
    seed: int = 0
    transfer: bool = False
    """Allow data other than the runs' training data."""
    bare: bool = False
    """Omit the controls and references that are included with a run."""
    backbone: str | None = None
    """Folder of a backbone that is not saved with the runs, if it has moved."""
    controls: bool = False
    """Include all controls of a run, not only another user's history."""
    device: str | torch.device = "auto"
    """Device of the runs' models; a loaded model stays on its device."""
    users: UserChoice = "partly"
    """``partly`` scores users with more interactions than the window, for whom the rule is no oracle; ``all`` all."""
    truths: tuple[Truth, ...] = ("labels",)
    """Interactions that the true labels are computed from; :attr:`Comparison.setting` has the first."""
    rule: LabelRule | None = None
    """Label rule; by default that of the runs, or else the dataset's."""
    calibration: bool = False
    """Whether to compute the calibration of predictors with probabilities."""
    promise: float | None = None
    """Expected F1 below which predictors with probabilities abstain; None to never abstain."""
    tests: bool = False
    """Whether to compare all pairs of predictors by paired randomisation tests."""
    constrained: bool | None = None
    """Whether decoding is constrained to the task's grammar; by default as saved with each run."""
    engine: ShardEngine | None = None
    """Engine that distributes the runs' predictions over processes; None predicts in this process."""

    def __post_init__(self) -> None:
        if self.users not in ("partly", "all"):
            raise PalateError(f"users is {self.users!r}; expected 'partly' or 'all'")
        if not self.truths or any(one not in TRUTHS for one in self.truths):
            found = ", ".join(map(repr, self.truths)) or "none"
            raise PalateError(f"the truth is {found}; expected one or more of {', '.join(TRUTHS)}")
        if len(set(self.truths)) < len(self.truths):
            raise PalateError(f"the truths are {', '.join(self.truths)}; expected each once")
        if self.promise is not None and not 0 <= self.promise <= 1:
            raise PalateError(f"the promised F1 is {self.promise:g}; expected a number from 0 to 1")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Predictors and the examples that they are scored on."""

    predictors: list[Predictor]
    examples: Examples
    dataset: Dataset
    task: CategoryPreference
    setting: Setting
    seeds: dict[str, list[str]] = field(default_factory=dict)
    """Groups of predictors that differ only in the training seed: member names by group name."""
    warnings: tuple[str, ...] = ()
    """Warnings about the training of the runs."""
    device: str | None = None
    """Device of the models; None if there are none."""
    calibration: bool = False
    promise: float | None = None

    def at_window(self, window: int, seed: int | None = None, truth: Truth | None = None) -> Comparison:
        """Return the comparison at another window size and, if given, with another window seed or truth.

        Predictors that are fitted to labels are refitted to those of the new truth.
        """
        setting = self.setting.model_copy(
            update={
                "window": window,
                "seed": self.setting.seed if seed is None else seed,
                "truth": truth or self.setting.truth,
            }
        )
        if setting == self.setting:
            return self
        predictors = self.predictors
        if setting.truth != self.setting.truth:
            predictors = [fitted_to(one, setting.truth) for one in predictors]
        examples = _examples(self.dataset, self.task, setting)
        return replace(self, setting=setting, examples=examples, predictors=predictors)

    def evaluate(self) -> Evaluation:
        """Score all predictors."""
        frequency = None
        if self.calibration:
            training = self.setting.model_copy(update={"split": "train"})
            truth = _examples(self.dataset, self.task, training).truth
            frequency = label_frequencies(truth, len(self.task.label_names))
        evaluation = score_predictors(
            self.predictors,
            self.examples,
            self.task,
            self.dataset,
            self.setting,
            frequency,
            self.promise,
        )
        return evaluation.model_copy(update={"warnings": self.warnings, "device": self.device})


def prepare_comparison(entries: Sequence[Entry], options: Options, windows: Sequence[int] = ()) -> Comparison:
    """Load runs, fit references and check all settings.

    Args:
        entries: Runs, references, models and predictors.
        options: Data, split, windows and device.
        windows: Window sizes used later, whose examples are checked before any model is loaded.

    Returns:
        The comparison, ready to evaluate.

    Raises:
        DataError: An entry is neither a run nor a registered reference, or a window or truth leaves no user.
        MismatchError: Runs have different tasks or, without ``transfer``, were trained on other data; or the device
            does not exist.
        PalateError: An object has no ``name`` or ``predict``.
    """
    asked = _Asked.of(entries)
    runs, models = asked.runs, asked.models
    recipe = runs[0].recipe if runs else Recipe()
    window = recipe.evaluate.window if runs or not models else models[0].settings.window
    setting = Setting(
        split=options.split,
        window=options.window or window,
        kind=options.window_kind or recipe.windows.kind,
        seed=options.seed,
        users=options.users,
        truth=options.truths[0],
    )
    places = _backbones(runs, options.backbone)
    dataset = _dataset(runs, options)
    _check_runs(runs, dataset, options.transfer)
    _check_models(asked, dataset)
    if not len(dataset.users(setting.split)):
        raise DataError(f"the {setting.split} split of {dataset.info.name} has no users to evaluate on")
    dataset = _with_texts(dataset, runs, models)
    asked_task = recipe.task if runs or not models else models[0].settings.task
    task = load_task(_with_rule(asked_task, options.rule), dataset.info)
    examples = _examples(dataset, task, setting)
    for window, truth in product(windows or [setting.window], options.truths):
        other = setting.model_copy(update={"window": window, "truth": truth})
        if other != setting:
            _examples(dataset, task, other)
    if runs:  # checked before the references are fitted, which can take long
        from palate.system.device import find_device

        options = replace(options, device=find_device(options.device))
    named = list(asked.references)
    if (runs or models) and not options.bare:
        named += BESIDE_A_RUN
    predictors = references(dataset, task, dict.fromkeys(named), setting.kind)
    names = _names(runs)
    trained: list[ModelPredictor] = [
        _load(run, name, dataset, task, options, places.get(run.path), setting.kind)
        for name, run in zip(names, runs, strict=True)
    ]
    for number, model in enumerate(models, start=1):
        name = "model" if len(models) == 1 else f"model {number}"
        trained.append(_predictor(model, name, recipe, dataset, setting.kind))
    for predictor in trained:
        predictors += _controls(predictor, dataset, setting, options)
        if not options.bare and isinstance(predictor, PersonalizedPredictor):
            predictors += _view(predictor, dataset, task, examples.windows)
        predictors.append(predictor)
    return Comparison(
        [fitted_to(one, setting.truth) for one in [*predictors, *asked.others]],
        examples,
        dataset,
        task,
        setting,
        _seeds(runs, names),
        tuple(_warnings(runs, names, dataset.info, task.settings.rule)),
        _where(trained),
        options.calibration,
        options.promise,
    )


@dataclass(frozen=True)
class _Asked:
    """Entries of a comparison, by type."""

    references: tuple[str, ...]
    runs: tuple[RunFolder, ...]
    models: tuple[PersonalizedModel, ...]
    others: tuple[Predictor, ...]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> _Asked:
        named = [entry for entry in entries if isinstance(entry, str) and entry in registry.predictors]
        folders = [entry for entry in entries if isinstance(entry, str | Path) and entry not in named]
        runs = [find_run(str(entry)) for entry in folders]
        objects = [entry for entry in entries if not isinstance(entry, str | Path)]
        models = []
        if objects:
            from palate.model.model import PersonalizedModel

            models = [one for one in objects if isinstance(one, PersonalizedModel)]
        others = [one for one in objects if one not in models]
        for one in others:
            if not isinstance(getattr(one, "name", None), str) or not callable(getattr(one, "predict", None)):
                raise PalateError(
                    f"{type(one).__name__} cannot be evaluated; expected a run's folder, the name of a reference, a "
                    "model, or an object with a name and predict(user_index, windows)"
                )
        return cls(tuple(named), tuple(runs), tuple(models), tuple(others))  # type: ignore[arg-type]


def _check_models(asked: _Asked, dataset: Dataset) -> None:
    """Check that loaded models share the runs' task and were trained on this data."""
    tasks = [run.recipe.task for run in asked.runs] + [model.settings.task for model in asked.models]
    if any(task != tasks[0] for task in tasks):
        raise MismatchError("the models have different tasks; evaluate them one by one")
    for model in asked.models:
        if model.settings.data_fingerprint != dataset.info.fingerprint:
            raise MismatchError(
                f"a model was trained on {model.settings.data_name}, but the data is {dataset.info.name}; give the "
                "model's training data, or the run's folder and transfer=True"
            )


def _backbones(runs: Sequence[RunFolder], backbone: str | None) -> dict[Path, str | None]:
    """Map each run to its backbone's folder; None for a run that saved its own."""
    runs = [run for run in runs if registry.run_kind_of(run.recipe) is None]
    wanting = [run for run in runs if run.model.is_dir() and model_settings(run.path).backbone is not None]
    if backbone is not None and not wanting:
        raise MismatchError("all runs here have their backbone saved with them; leave --backbone out")
    places = {run.path: backbone if run in wanting else None for run in runs}
    for run in runs:
        if run.model.is_dir():
            check_model(run.path, places[run.path])
    return places


def _with_rule(settings: TaskSettings, rule: LabelRule | None) -> TaskSettings:
    """Replace the label rule, and drop the thresholds given for the old one."""
    if rule is None:
        return settings
    return settings.model_copy(update={"rule": rule, "like_above": None, "dislike_below": None})


def _examples(dataset: Dataset, task: CategoryPreference, setting: Setting) -> Examples:
    it = setting
    return make_examples(dataset, task, it.split, it.window, it.kind, it.seed, it.users, it.truth)


def find_run(entry: str) -> RunFolder:
    """Load a run by its folder; raises :class:`DataError`, which also lists the references."""
    try:
        return load_run(entry)
    except DataError as error:
        raise DataError(
            f"{error}; or the name of a reference: {', '.join(registry.predictors.kinds)}"
        ) from None


def _dataset(runs: Sequence[RunFolder], options: Options) -> Dataset:
    if options.data is not None:
        return load_dataset(options.data.expanduser()) if isinstance(options.data, Path) else options.data
    if not runs:
        raise DataError("references and loaded models do not name a dataset; name it with --data, or pass it")
    return dataset_of(runs[0])


def _with_texts(dataset: Dataset, runs: Sequence[RunFolder], models: Sequence[PersonalizedModel]) -> Dataset:
    """Add the users' texts about events to the dataset, if a model reads them."""
    reading = next((run.recipe.items for run in runs if run.recipe.model.event_texts), None)
    reader = next((model for model in models if model.settings.event_texts), None)
    if reading is None and reader is None:
        return dataset
    from palate.items.encoder import ItemEncoder
    from palate.items.event_texts import with_event_texts

    encoder = reader.text_encoder if reader is not None else ItemEncoder(reading or ItemSettings())
    return with_event_texts(dataset, encoder)


def _check_runs(runs: Sequence[RunFolder], dataset: Dataset, transfer: bool) -> None:
    """Check that runs are trained, share a task, and match the dataset."""
    for run in runs:
        if not run.model.is_dir():
            raise DataError("has no trained model; finish its training with 'palate train'", run.path)
        if run.recipe.task != runs[0].recipe.task:
            raise MismatchError(
                f"{run.path} and {runs[0].path} have different tasks; evaluate them one by one"
            )
        if transfer or run.trained_on is None:
            continue
        trained_on, fingerprint = run.trained_on
        if fingerprint != dataset.info.fingerprint:
            raise MismatchError(
                f"{run.path} was trained on {trained_on} ({fingerprint[:14]}), but {dataset.path} is "
                f"{dataset.info.name} ({dataset.info.fingerprint[:14]}); name the run's training data, or add "
                "--transfer"
            )


def _names(runs: Sequence[RunFolder]) -> list[str]:
    short = [run.name for run in runs]
    return [name if short.count(name) == 1 else str(run.path) for name, run in zip(short, runs, strict=True)]


def _seeds(runs: Sequence[RunFolder], names: Sequence[str]) -> dict[str, list[str]]:
    """Group runs whose recipes differ only in seed and name; of runs with the same seed, only the first is kept."""
    groups: dict[tuple[str, str], dict[int, str]] = {}
    called: dict[tuple[str, str], str] = {}
    for run, name in zip(runs, names, strict=True):
        recipe = run.recipe
        rest = dump_recipe(recipe.model_copy(update={"seed": 0, "name": ""}))
        key = rest, "" if run.trained_on is None else run.trained_on[1]
        groups.setdefault(key, {}).setdefault(recipe.seed, name)
        called.setdefault(key, recipe.name)
    seeds: dict[str, list[str]] = {}
    for key, by_seed in groups.items():
        if (count := len(by_seed)) > 1:
            label, members = f"{called[key]}, {count} seeds", list(by_seed.values())
            seeds[f"{label} ({', '.join(members)})" if label in seeds else label] = members
    return seeds


def _warnings(
    runs: Sequence[RunFolder], names: Sequence[str], info: DatasetInfo, scored: LabelRule | None
) -> Iterator[str]:
    for run, name in zip(runs, names, strict=True):
        if registry.run_kind_of(run.recipe) is None and (record := model_settings(run.path).training):
            yield from (f"{name}: {warning}" for warning in record.warnings())
        trained = run.recipe.task.rule or info.rule
        if run.trained_on is not None and trained != scored:
            yield f"{name}: it was trained with the label rule {trained!r} and is scored with {scored!r}"


def _controls(predictor: Predictor, dataset: Dataset, setting: Setting, options: Options) -> list[Predictor]:
    if options.controls:
        from palate.evaluation.predictors.model_controls import controls

        return controls(predictor, dataset, setting)
    return [] if options.bare else [AnotherUsersHistory(predictor, options.seed)]


def _view(
    predictor: PersonalizedPredictor, dataset: Dataset, task: CategoryPreference, windows: Windows
) -> list[Predictor]:
    from palate.evaluation.predictors.view import ViewInTemplate, has_view

    return [ViewInTemplate(predictor, dataset, task)] if has_view(predictor, windows) else []


def _where(trained: Sequence[ModelPredictor]) -> str | None:
    """Format the distinct devices of the models."""
    if not trained:
        return None
    from palate.system.device import describe_device

    return ", ".join(dict.fromkeys(describe_device(one.model.device) for one in trained))


def _load(
    run: RunFolder,
    name: str,
    dataset: Dataset,
    task: CategoryPreference,
    options: Options,
    backbone: str | None,
    kind: WindowKind,
) -> ModelPredictor:
    if (run_kind := registry.run_kind_of(run.recipe)) is not None:
        return _answers(run_kind, run, name, dataset, task, options)
    from palate.model.build import build_table
    from palate.model.model import load_model

    recipe = run.recipe
    model = load_model(run.path, backbone, device=options.device, constrained=options.constrained)
    if model.settings.unbound or (options.transfer and model.settings.binds):
        model = model.with_task(_with_rule(model.settings.task, options.rule))
        model = model.bind(dataset, model.summarised(dataset, kind=kind))
    elif options.transfer:
        model = model.with_table(build_table(recipe, dataset, device=model.device))
    predictor = _predictor(model, name, recipe, dataset, kind)
    predictor.engine, predictor.backbone = options.engine, backbone
    return predictor


def _answers(
    kind: registry.RunKind,
    run: RunFolder,
    name: str,
    dataset: Dataset,
    task: CategoryPreference,
    options: Options,
) -> ModelPredictor:
    """Load the predictor of a run of a registered kind; raises :class:`RecipeError` if it has none."""
    if kind.answers is None:
        raise RecipeError(f"{run.path} answers nothing about categories; rank its items with palate rank")
    return kind.answers(run, name, dataset, task, registry.AnswerOptions(options.device, options.constrained))


def _predictor(
    model: PersonalizedModel, name: str, recipe: Recipe, dataset: Dataset, kind: WindowKind
) -> PersonalizedPredictor:
    """Build a model's predictor; a model without a catalogue is calibrated on windows of the evaluated kind."""
    if model.settings.binds and model.summary.windows not in (None, kind):
        model = model.with_summary(model.summarised(dataset, kind=kind))
    return PersonalizedPredictor.by_recipe(model, name, recipe, dataset, kind)
