"""``palate reproduce p5`` and ``pod``: trains P5 or POD on each dataset, and adds references and published numbers.

What a trained cell is evaluated on follows from its recipe and from ``p5.yaml``, by the name of its dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field, ValidationError

from palate.config.generative import Family, IdKind
from palate.config.load import Layer, load_recipe, recipe_from
from palate.config.yaml_file import read_yaml
from palate.data.dataset import Dataset, load_dataset
from palate.errors import RecipeError, faults
from palate.generative.files import load_generative
from palate.generative.parts import GenerativeQuestion
from palate.generative.pepler_scores import PeplerScores
from palate.generative.ranker import TrainedGenerative
from palate.ranking.compare import rank
from palate.ranking.explanation_tables import pepler_sheet
from palate.ranking.generative_texts import (
    EXPLAINED,
    EXPLAINED_STARS,
    PROMPT_WORDINGS,
    RATED,
    REVIEWED,
    score_generative_texts,
    worded,
)
from palate.ranking.ratings.compare import RatingTable, score_ratings
from palate.ranking.results import RankerScores, RankingTable
from palate.report.sheet import Sheet
from palate.reproduce.cell import RECIPE, RESULT, RUN, log, training_minutes
from palate.reproduce.engine import Measurement
from palate.reproduce.plan import HERE, Preset, preset_of
from palate.reproduce.scored import read_scored, write_scored
from palate.runs.run import RunFolder
from palate.system.files import write_json_lines, write_text
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.config.recipe import Recipe
    from palate.generative.recommender import GenerativeRecommender
    from palate.ranking.base import Ranker
    from palate.schema import RankingProtocol

Kind: TypeAlias = Literal["p5", "pod"]
ANSWERS = "answers.jsonl"
KNN, POPULARITY, MF = "item-knn", "popularity", "biased-mf"
VISIBLE = 10
"""Number of visible ratings of a new user."""
_HEAD = ("system", "HR@5", "NDCG@5", "HR@10", "NDCG@10", "95% interval", "to item-knn", "to popularity")
_METRICS = ("hr@5", "ndcg@5", "hr@10", "ndcg@10")


class _Asked(Frozen):
    """Families, ids and references of a dataset's cells, and its published numbers."""

    families: dict[Family, float]
    kinds: tuple[Kind, ...] = ("p5", "pod")
    path: str | None = None
    """Folder below the preset's; the dataset's name if None."""
    ids: tuple[IdKind, ...] = ("sequential",)
    protocol: Literal["leave-last-out", "new-users"] = "leave-last-out"
    candidates: str | None = None
    """File of candidates, in the folder above the dataset's."""
    numbered: bool = False
    """Whether the dataset's ids are numbers, so that the reference ``largest-id`` can detect leaks."""
    ordered: bool = True
    published: dict[str, tuple[float | None, float | None, float | None, float | None]] = Field(
        default_factory=dict
    )
    traps: str = ""


class _PresetOfP5(Frozen):
    data: Path
    recipe: dict[str, Any]
    of_kind: dict[Kind, dict[str, Any]] = Field(default_factory=dict)
    of_data: dict[str, dict[str, Any]] = Field(default_factory=dict)
    without: tuple[str, ...] = ()
    """Datasets of the table that the preset has no cells of."""
    users: int | None = None
    """Number of test users that items are ranked for; all if None."""


class _P5Spec(Frozen):
    data: dict[str, _Asked]
    pod: tuple[Family, ...]
    presets: dict[Preset, _PresetOfP5]


class P5CellResult(Frozen):
    """Contents of ``result.json`` of a finished cell; None for evaluations that do not apply."""

    format: int = 1
    cell: str
    kind: Kind
    data: str
    ids: IdKind
    seed: int
    ranked: RankingTable | None
    """Rankings by the model's prompts, then by references."""
    texts: tuple[PeplerScores, ...]
    """Ratings, explanations and reviews of held-out interactions, then references."""
    rated: RatingTable | None
    """Ratings of users without training data, then of references."""
    parameters: int
    minutes: float
    """Processor time of the training."""
    data_fingerprint: str


class P5Results(Frozen):
    """Contents of ``results.json``."""

    preset: Preset
    cells: tuple[P5CellResult, ...]


@dataclass(frozen=True)
class P5Cell:
    """P5 or POD on a dataset, with a kind of ids and a seed."""

    name: str
    recipe: Recipe


def p5_cells(kind: Kind, preset: Preset, data: Path | None = None, seeds: int = 1) -> list[P5Cell]:
    """List the cells of a preset, ordered by dataset.

    Args:
        kind: ``p5`` or ``pod``, which has fewer families and no leaking ids.
        preset: The preset.
        data: The only dataset, evaluated as the table says for its name, or on all families that it has data for;
            those of the table if None.
        seeds: Number of seeds of each system.
    """
    spec = _spec()
    made = preset_of(spec.presets, preset, kind)
    if data is None:
        asked = {name: one for name, one in spec.data.items() if name not in made.without}
    else:
        asked = {data.name: spec.data.get(data.name) or _asked_of(load_dataset(data))}
    cells = []
    for name, one in asked.items():
        path = data or made.data / (one.path or name)
        if one.candidates is not None and data is None:
            path = path / "data"
        families = {
            family: share for family, share in one.families.items() if kind == "p5" or family in spec.pod
        }
        if not families or kind not in one.kinds:
            continue
        for seed in range(seeds):
            for ids in one.ids if kind == "p5" else one.ids[:1]:
                own = f"{kind}-{name}-{ids}-seed{seed}"
                settings = {"kind": kind, "ids": ids, "families": families}
                layers = [
                    Layer("the preset's recipe", made.recipe),
                    Layer(f"the preset's settings of {kind}", made.of_kind.get(kind, {})),
                    Layer(f"the preset's settings of {name}", made.of_data.get(name, {})),
                    Layer(f"the table's settings of {name}", {"generative": settings}),
                    Layer(
                        f"the cell {own}",
                        {"name": own, "seed": seed, "data": {"path": path, "protocol": one.protocol}},
                    ),
                ]
                cells.append(P5Cell(own, recipe_from(layers)))
    return cells


def measure_p5(folder: Path, device: str = "auto", users: int | None = None) -> None:
    """Evaluate a trained cell and references, and write ``result.json`` and the answers.

    Args:
        folder: The cell's folder.
        device: Ignored; P5 is evaluated on the CPU.
        users: Number of test users that items are ranked for; all if None.
    """
    recipe, run = load_recipe(folder / RECIPE), RunFolder(folder / RUN)
    settings = recipe.generative
    assert settings is not None
    name = recipe.name.removeprefix(f"{settings.kind}-").removesuffix(f"-{settings.ids}-seed{recipe.seed}")
    dataset = load_dataset(recipe.data.path)
    asked = _spec().data.get(name) or _asked_of(dataset)
    model = load_generative(run.path)
    last = recipe.data.protocol == "leave-last-out"
    texts: tuple[PeplerScores, ...] = ()
    if last and {"rating", "explanation", "review"} & set(settings.families):
        found = score_generative_texts(model, recipe, dataset)
        texts = tuple(found.scores)
        write_json_lines(folder / ANSWERS, found.answers)
    result = P5CellResult(
        cell=folder.name,
        kind=settings.kind,
        data=name,
        ids=settings.ids,
        seed=recipe.seed,
        ranked=_ranked(model, recipe, dataset, asked, users)
        if last and {"sequential", "direct"} & set(settings.families)
        else None,
        texts=texts,
        rated=_rated(model, dataset) if not last and "rating" in settings.families else None,
        parameters=sum(weight.numel() for weight in model.model.parameters()),
        minutes=training_minutes(folder),
        data_fingerprint=run.manifest.data_fingerprint,
    )
    write_text(folder / RESULT, result.model_dump_json(indent=2) + "\n")


def read_p5(folder: Path) -> P5CellResult | None:
    """Load the result of a cell; None if unfinished. Raises :class:`DataError` if it is damaged."""
    return read_scored(P5CellResult, folder)


def p5_measurement(preset: Preset) -> Measurement[P5CellResult]:
    """Return how a preset's cells of P5 and POD are measured."""
    users = preset_of(_spec().presets, preset, "p5").users
    return Measurement(partial(measure_p5, users=users), read_p5, _told)


def p5_sheets(results: Sequence[P5CellResult]) -> list[Sheet]:
    """Make tables of rankings, texts and ratings for each dataset, with references and published numbers."""
    spec, sheets = _spec(), []
    for data in dict.fromkeys(one.data for one in results):
        of_data = [one for one in results if one.data == data]
        asked = spec.data.get(data)
        several = len({one.seed for one in of_data}) > 1
        titles = {one.cell: _title(one, several) for one in of_data}
        if ranked := [(titles[one.cell], one.ranked) for one in of_data if one.ranked is not None]:
            sheets.append(_ranking_sheet(data, ranked, asked))
        texts = [one for one in of_data if one.texts]
        if texts:
            rows = [
                score.model_copy(update={"name": f"{titles[one.cell]}: {score.name}"})
                for one in texts
                for score in one.texts
                if score.name in _OWN
            ]
            rows += [score for score in texts[0].texts if score.name not in _OWN]
            sheet = pepler_sheet(rows, f"{data}: each user's last interaction")
            sheets.append(replace(sheet, note=_noted(asked, sheet.note)))
        if rated := [(titles[one.cell], one.rated) for one in of_data if one.rated is not None]:
            sheets.append(_rating_sheet(data, rated, asked))
    return sheets


def write_p5_results(results: Sequence[P5CellResult], preset: Preset, out: Path) -> list[Sheet]:
    """Write results and tables, and return the tables."""
    sheets = p5_sheets(results)
    write_scored(P5Results(preset=preset, cells=tuple(results)), sheets, out)
    return sheets


def _ranked(
    model: GenerativeRecommender, recipe: Recipe, dataset: Dataset, asked: _Asked, users: int | None
) -> RankingTable:
    assert recipe.generative is not None
    families = recipe.generative.families
    questions: dict[str, dict[str, Any]] = {}
    if "sequential" in families:
        questions["sequential prompts"] = {"family": "sequential"}
    if "direct" in families:
        questions["direct prompts"] = {"family": "direct", "form": "open"}
        if asked.candidates is not None:
            questions["direct prompts that offer the items"] = {"family": "direct", "form": "pick"}
    entries: list[str | Path | tuple[str, Ranker]] = [
        (worded(name, wording), _asked_in(model, wording, **given))
        for name, given in questions.items()
        for wording in PROMPT_WORDINGS
    ]
    entries += [f"{KNN}:shrinkage=5,decay={0.5 if asked.ordered else 1}", POPULARITY]
    entries += ["largest-id", "largest-id:ids=training"] if asked.numbered else []
    protocol: RankingProtocol = "leave-last-out"
    candidates = "all" if asked.candidates is None else recipe.data.path.parent / asked.candidates
    return rank(entries, dataset, protocol=protocol, candidates=candidates, trials=1, users=users, report=log)


def _rated(model: GenerativeRecommender, dataset: Dataset) -> RatingTable:
    entries: list[Any] = [
        (worded(_RATING, wording), _asked_in(model, wording)) for wording in PROMPT_WORDINGS
    ]
    return score_ratings(
        [*entries, "item-mean", MF], dataset, visible=[VISIBLE], trials=1, versus=MF, report=log
    )


def _asked_in(model: GenerativeRecommender, wording: str, **given: Any) -> TrainedGenerative:
    """Return a ranker that asks in a wording."""
    return TrainedGenerative(
        replace(model, asked=GenerativeQuestion.model_validate({"prompt": wording, **given}))
    )


_RATING = "rating prompts"
_OWN = [
    worded(name, wording)
    for name in (RATED, EXPLAINED, EXPLAINED_STARS, REVIEWED)
    for wording in PROMPT_WORDINGS
]


def _title(one: P5CellResult, several: bool) -> str:
    ids = "leaking ids (a control)" if one.ids == "leaking" else f"{one.ids} ids"
    return f"{one.kind.upper()}, {ids}" + (f", seed {one.seed}" if several else "")


def _ranking_sheet(data: str, ranked: Sequence[tuple[str, RankingTable]], asked: _Asked | None) -> Sheet:
    rows, questions = [], 0
    for title, table in ranked:
        own = [one for one in table.rankers if " prompts" in one.name]
        rows += [_ranking_row(f"{title}: {one.name}", one) for one in own]
        questions = len(own)
    first = ranked[0][1]
    rows += [_ranking_row(one.name, one) for one in first.rankers[questions:]]
    published = {} if asked is None else asked.published
    rows += [
        [f"published: {name}", *("" if value is None else f"{value:.4f}" for value in values), "", "", ""]
        for name, values in published.items()
    ]
    drawn = "".join(f"{one[0].upper()}{one[1:]}. " for one in first.warnings if "drawn by" in one)
    among = "all items" if first.candidates == "all" else "the candidates of the file"
    note = (
        "95% bootstrap intervals of NDCG@10 over users; differences of NDCG@10 are paired by user. Prompts are worded "
        "as in no training, or as in training where the row says so."
    )
    title = f"{data}: {first.users:,} users' last items among {among}"
    return Sheet(title, _HEAD, rows, _noted(asked, drawn + note))


def _ranking_row(name: str, one: RankerScores) -> list[str]:
    interval = one.metrics["ndcg@10"]
    cells = [name, *(f"{one.metrics[metric].value:.4f}" for metric in _METRICS)]
    cells.append(f"{interval.low:.4f}–{interval.high:.4f}")
    for reference in (KNN, POPULARITY):
        to = next((each for each in one.differences if each.to.split(":")[0] == reference), None)
        cells.append("" if to is None else f"{to.value:+.4f} ({to.low:+.4f} to {to.high:+.4f})")
    return cells


def _rating_sheet(data: str, rated: Sequence[tuple[str, RatingTable]], asked: _Asked | None) -> Sheet:
    rows = []
    for title, table in rated:
        [part] = table.parts
        for one in table.predictors:
            own = one.name.startswith(_RATING)
            if not own and title != rated[0][0]:
                continue
            scores, differences = one.metrics[part.shown], one.differences.get(part.shown, {})
            cells = [f"{title}: {one.name}" if own else one.name]
            for metric in ("rmse", "mae"):
                score = scores[metric]
                cells.append(f"{score.value:.3f} ({score.low:.3f}–{score.high:.3f})")
            to = differences.get("rmse")
            cells.append("" if to is None else f"{to.value:+.3f} ({to.low:+.3f} to {to.high:+.3f})")
            rows.append(cells)
    part = rated[0][1].parts[0]
    title = f"{data}: {part.ratings:,} ratings of {part.users:,} new users, {part.shown}"
    note = "95% bootstrap intervals over users; differences are paired by user."
    return Sheet(title, ("system", "RMSE", "MAE", f"RMSE to {MF}"), rows, _noted(asked, note))


def _noted(asked: _Asked | None, note: str) -> str:
    return note if asked is None or not asked.traps else f"{asked.traps} {note}"


def _told(one: P5CellResult) -> str:
    said = []
    if one.ranked is not None:
        said += [f"{each.name} NDCG@10 {each.metrics['ndcg@10'].value:.4f}" for each in one.ranked.rankers]
    for score in one.texts:
        if score.texts is not None:
            said.append(f"{score.name} BLEU-4 {score.texts.bleu4.value:.2f}")
        if score.ratings is not None:
            said.append(f"{score.name} RMSE {score.ratings.rmse.value:.3f}")
    if one.rated is not None:
        shown = one.rated.parts[0].shown
        said += [f"{each.name} RMSE {each.metrics[shown]['rmse'].value:.3f}" for each in one.rated.predictors]
    return f"{', '.join(said)}; {one.minutes:.1f} processor minutes"


def _asked_of(dataset: Dataset) -> _Asked:
    """Return the families that a dataset has data for, where the table does not name it."""
    families: dict[Family, float] = {"sequential": 1, "direct": 1}
    if dataset.info.feedback == "ratings":
        families["rating"] = 1
        if dataset.info.reviewed_interactions:
            families |= {"explanation": 3, "review": 1}
    return _Asked(families=families)


def _spec() -> _P5Spec:
    path = HERE / "p5.yaml"
    try:
        return _P5Spec.model_validate(dict(read_yaml(path)))
    except ValidationError as error:
        raise RecipeError(f"{path}: {faults(error)}") from error
