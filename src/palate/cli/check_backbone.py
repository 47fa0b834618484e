"""The ``palate check-backbone`` command: tests whether a decoder-only model can be a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from palate.cli.console import show_table, tell
from palate.cli.options import option_at_home

if TYPE_CHECKING:
    from rich.table import Table

    from palate.model.conformance import Conformance


def check_backbone(
    name: Annotated[
        str,
        Argument(
            metavar="NAME",
            callback=option_at_home,
            help="A decoder-only model: a hub name, a folder, a .gguf file, or  packaged:gemma3-270m.",
        ),
    ],
    revision: Annotated[str | None, Option(help="Revision of a model on the hub.")] = None,
) -> None:
    """Check whether a decoder-only model can be a backbone; exit code 1 if a check fails."""
    from palate.config.recipe import CausalSettings
    from palate.model.conformance import check_conformance

    settings = CausalSettings(name=name, revision=revision)
    found = check_conformance(settings, lambda one: tell(f"checked: {one.name}"))
    show_table(_table(name, found))
    if not found.passed:
        raise Exit(1)


def _table(name: str, found: Conformance) -> Table:
    from palate.report.fitted import folded_table

    words = {True: "✓ passed", False: "✗ failed", None: "· not checked"}
    failed = sum(one.passed is False for one in found.checks)
    return folded_table(
        name,
        ("check", "result", "found"),
        ((one.name, words[one.passed], one.found) for one in found.checks),
        whole=("result",),
        caption="It can be a backbone."
        if found.passed
        else f"{failed} of {len(found.checks)} checks failed.",
    )
