"""Writes what the documents quote from the code and from results: run it after changing either.

python docs/generate.py

The README's scores come from docs/demo-report.json, a copy of the report.json that `palate demo` writes, and
docs/results.md from docs/results.json, a copy of what `palate reproduce` writes, where there is one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from typer.main import get_command

from palate.cli import app
from palate.cli.options import variable_of
from palate.config.recipe import Recipe
from palate.config.section import sections_of
from palate.data.event_types import DEFAULT_WEIGHTS
from palate.report.build import amount, duration, read_report
from palate.report.data import ReportData, ScoreRow, ShownScore
from palate.reproduce.markdown import as_markdown
from palate.reproduce.results import read_results
from palate.serve.settings import Limits
from palate.system.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "palate"
DEMO = ROOT / "docs" / "demo-report.json"
RESULTS = ROOT / "docs" / "results.json"


def documents() -> dict[Path, str]:
    """Every document with generated parts, as it should be."""
    parts = {
        "README.md": {"scores": _scores()},
        "docs/architecture.md": {"map": _map()},
        "docs/data.md": {"event types": _event_types()},
        "docs/install.md": {"extras": _extras()},
        "docs/training.md": {"settings": _settings()},
        "docs/serving.md": {"limits": _limits(), "options": _options()},
    }
    filled = {ROOT / name: _filled((ROOT / name).read_text(), found) for name, found in parts.items()}
    if RESULTS.is_file():
        filled[ROOT / "docs" / "results.md"] = as_markdown(read_results(RESULTS))
    return filled


def _filled(text: str, parts: dict[str, str]) -> str:
    for name, part in parts.items():
        start, end = f"<!-- {name}: written by docs/generate.py -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        text, found = pattern.subn(lambda _: f"{start}\n{part}\n{end}", text)  # noqa: B023 - used at once
        assert found == 1, f"{found} places for {name}"
    return text


def _scores() -> str:
    if not DEMO.is_file():
        return "(not measured yet)"
    return scores_table(read_report(DEMO))


def scores_table(data: ReportData) -> str:
    """A report's scores as a Markdown table, with the facts that they depend on."""
    facts = {fact.label: fact.value for fact in data.facts}
    rows = [
        "| predictor | liked F1 | disliked F1 | joint F1 | user prompt | training |",
        "|---|---:|---:|---:|---:|---:|",
        *(f"| {' | '.join(_score_cells(row))} |" for row in data.scores),
    ]
    return "\n".join([*rows, "", f"In brackets: {data.interval}. {facts['Machine']}; {facts['Wall time']}."])


def _score_cells(row: ScoreRow) -> Iterator[str]:
    name = f"**{row.predictor}**" if row.kind == "model" else row.predictor
    yield f"{name}: {row.note}" if row.note else name
    yield from map(_score, (row.f1, row.disliked_f1, row.joint_f1))
    yield "" if row.prompt_tokens is None else f"{amount(row.prompt_tokens)} vectors"
    yield "" if row.training_seconds is None else duration(row.training_seconds)


def _score(score: ShownScore | None) -> str:
    if score is None or score.low is None or score.high is None:
        return "" if score is None else f"{score.value:.3f}"
    return f"{score.value:.3f} ({score.low:.2f}–{score.high:.2f})"


def _map() -> str:
    """Every module by the first line of its docstring."""
    rows = ["| module | what it holds |", "|---|---|"]
    modules = sorted(PACKAGE.rglob("*.py"), key=lambda path: (path.parent != PACKAGE, path))
    for path in modules:
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, f"{path} has no docstring"
        summary = docstring.split("\n\n")[0].replace("\n", " ").replace("|", "\\|").replace("``", "`")
        summary = re.sub(r":\w+:`(\w+)`", r"`\1`", summary)
        rows.append(f"| `{path.relative_to(PACKAGE).as_posix()}` | {summary} |")
    return "\n".join(rows)


def _extras() -> str:
    """What each extra is for, as `palate doctor` says it."""
    rows = [f"| `{name}` | {extra.needed_for} |" for name, extra in EXTRAS.items()]
    return "\n".join(["| extra | needed for |", "|---|---|", *rows])


def _event_types() -> str:
    rows = [
        f"| {weight:g} | {', '.join(f'`{name}`' for name in names.split())} |"
        for weight, names in DEFAULT_WEIGHTS.items()
    ]
    return "\n".join(["| weight | types |", "|---:|---|", *rows])


def _settings() -> str:
    """Every key that a recipe may have, section by section, with the docstring below the field."""
    meanings = _field_docstrings((PACKAGE / "config" / "recipe.py").read_text())
    return "\n\n".join(f"### {title}\n\n{_table(model, meanings)}" for title, model in _sections(Recipe))


def _limits() -> str:
    """Every limit of a server."""
    return _table(Limits, _field_docstrings((PACKAGE / "serve" / "settings.py").read_text()))


def _options() -> str:
    """Every argument and option of ``palate serve``, with its environment variable."""
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    rows = ["| option | variable | meaning |", "|---|---|---|"]
    for one in command.params:
        if one.envvar is not None:
            name = one.opts[0] if one.param_type_name == "option" else one.metavar
            rows.append(f"| `{name}` | `{variable_of('serve', one.name)}` | {' '.join(one.help.split())} |")
    return "\n".join(rows)


def _table(model: type[BaseModel], meanings: dict[tuple[str, str], str]) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        only_one_value = name == "kind" and len(get_args(field.annotation)) == 1
        if not sections_of(field) and not only_one_value:
            value = field.get_default(call_default_factory=True)
            default = "not given" if value is None else f"`{_yaml(value)}`"
            said = (meanings.get((kind.__name__, name)) for kind in model.__mro__)  # also by what it extends
            rows.append(f"| `{name}` | {default} | {next(filter(None, said), '')} |")
    return "\n".join(rows)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield f"`{prefix}`" if prefix else "Top level", model
    for name, field in model.model_fields.items():
        for section in sections_of(field):
            key = f"{prefix}.{name}".lstrip(".")
            kind = section.model_fields.get("kind")
            for title, found in _sections(section, key):
                several = len(sections_of(field)) > 1 and found is section
                yield f"`{key}`, `kind: {kind.default}`" if kind and several else title, found


def _field_docstrings(source: str) -> dict[tuple[str, str], str]:
    """The string below each annotated field, by class and field."""
    found = {}
    for section in ast.parse(source).body:
        if not isinstance(section, ast.ClassDef):
            continue
        for field, below in pairwise(section.body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                assert isinstance(field.target, ast.Name)
                assert isinstance(below.value, ast.Constant)
                meaning = str(below.value.value).replace("``", "`").replace("\n", " ")
                found[section.name, field.target.id] = " ".join(meaning.split())
    return found


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text)
