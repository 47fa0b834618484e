"""Lays out what the site is built from: these pages, the README as the first, and references made from the code.

python docs/stage.py FOLDER

The pages stay readable in the repository, whose links lead to files; here a link to a page leads to the page, and
one to any other file of the repository becomes its name.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

import palate
from palate.cli import app
from palate.cli.options import CommandThatNamesKinds

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
AT_THE_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Pages that lie beside ``docs``, and what they are called on the site."""
SHOWN = (".md", ".svg", ".png", ".css")
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>(?!https?:|#|mailto:)[^)#\s]+)(?P<anchor>#[^)]*)?\)")
_GROUPS = {
    "Data": ("prepare", "load_dataset", "read_history", "OwnData", "Dataset", "History", "Item"),
    "Models": ("train", "load_model", "load_recipe", "PersonalizedModel", "Recipe"),
    "Recommending and answers": ("load_recommender", "load_answerer", "Recommender", "Answerer"),
    "Evaluation": (
        *("evaluate", "rank", "score_ratings"),
        *("EvaluationTable", "RankingTable", "RatingTable"),
    ),
    "Serving and export": ("Client", "export_prompts", "read_prompts"),
    "Extending": (
        *("register_user_encoder", "register_task", "register_predictor", "register_ranker"),
        *("KindSettings", "PalateError"),
    ),
}
"""Public names by what they are for; each is on the page once."""


def stage(folder: Path) -> None:
    """Write all sources of the site into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "reference").mkdir(parents=True)
    for name, page in AT_THE_ROOT.items():
        (folder / page).write_text(_linked(ROOT / name))
    for path in sorted(DOCS.iterdir()):
        if path.suffix == ".md":
            (folder / path.name).write_text(_linked(path))
        elif path.suffix in SHOWN:
            shutil.copy(path, folder)
    (folder / "reference" / "python.md").write_text(python_reference())
    (folder / "reference" / "commands.md").write_text(command_reference())


def _linked(page: Path) -> str:
    """Return a page's text with the links of the site; code blocks stay as they are."""
    parts = re.split(r"(^```.*?^```$|^ {4}\S[^\n]*$)", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return "".join(
        part if number % 2 else _LINK.sub(lambda found: _link(found, page), part)
        for number, part in enumerate(parts)
    )


def _link(found: re.Match[str], page: Path) -> str:
    target = Path(os.path.normpath(page.parent / found["target"]))
    assert target.exists(), f"{page}: {found['target']} does not exist"
    on_site = AT_THE_ROOT.get(target.relative_to(ROOT).as_posix())
    if on_site is None and target.parent == DOCS and target.suffix in SHOWN:
        on_site = target.name
    if on_site is None:
        return f"{found['text']} (`{target.relative_to(ROOT)}`)"
    return f"[{found['text']}]({on_site}{found['anchor'] or ''})"


def python_reference() -> str:
    """Write the page of the public names, whose docstrings mkdocstrings fills in."""
    named = [name for names in _GROUPS.values() for name in names]
    assert sorted(named) == sorted(palate.__all__), set(named) ^ set(palate.__all__)
    lines = [
        "# Python",
        "",
        "All public names, as `palate.NAME`; `import palate` loads none of them until it is used.",
        "",
    ]
    for title, names in _GROUPS.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += [f"::: {getattr(palate, name).__module__}.{name}", ""]
    return "\n".join(lines)


def command_reference() -> str:
    """Write the page of the commands from their help."""
    lines = [
        "# Commands",
        "",
        "What `palate COMMAND --help` says. Before the command stand `--verbose`, which prints the traceback of an",
        "error, and `--version`.",
        "",
    ]
    for name, command in _commands(typer.main.get_command(app), ""):
        context = command.make_context(name, [], resilient_parsing=True)
        if isinstance(command, CommandThatNamesKinds):
            command.name_kinds()
        lines += [
            f"## palate {name}",
            "",
            (command.help or "").strip(),
            "",
            "| | default | |",
            "|---|---|---|",
        ]
        for parameter in command.params:
            record = None if parameter.name == "help" else parameter.get_help_record(context)
            if record is not None or isinstance(parameter, TyperArgument):
                lines.append(_row(parameter))
        lines.append("")
    return "\n".join(lines)


def _commands(group: TyperGroup, prefix: str) -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _row(parameter: TyperArgument | TyperOption) -> str:
    if isinstance(parameter, TyperArgument):
        name = parameter.metavar or (parameter.name or "").upper()
    else:
        name = ", ".join((*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    shown = "" if default is None or callable(default) or default in ((), [], False) else f"`{default}`"
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"| `{name}` | {shown} | {text} |"


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
