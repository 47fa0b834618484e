"""The ``palate doctor`` command: diagnosis of the installation."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option

from palate.cli.console import show, show_json, show_table

if TYPE_CHECKING:
    from palate.system.diagnosis import Diagnosis


def doctor(
    as_json: Annotated[bool, Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show versions, devices, extras and caches, and what is missing; exit code 1 if there is a problem."""
    from palate.system.diagnosis import diagnose

    found = diagnose()
    if as_json:
        show_json(asdict(found))
    else:
        _show(found)
    if found.problems:
        raise Exit(1)


def _show(found: Diagnosis) -> None:
    from palate.report.fitted import folded_table

    commit = f" ({found.commit[:12]})" if found.commit else ""
    show(f"palate {found.palate or 'is not installed'}, from {found.installed_from}{commit}")
    show(f"Python {found.python}, {found.machine}")
    show_table(
        folded_table(
            "packages",
            ("package", "installed", "expected"),
            ((one.name, one.version or "✗ missing", one.expected) for one in found.packages),
        )
    )
    show_table(
        folded_table(
            "devices",
            ("--device", "device"),
            (
                (one.name, f"{one.what}{', the default' if one.name == found.default_device else ''}")
                for one in found.devices
            ),
        )
    )
    show_table(
        folded_table(
            "extras",
            ("extra", "state", "needed for", "install it with"),
            (
                (
                    one.name,
                    "✓" if one.installed else "✗ missing",
                    one.needed_for,
                    "" if one.installed else one.install,
                )
                for one in found.extras
            ),
        )
    )
    show_table(
        folded_table(
            "caches",
            ("content", "size", "folder", "free space"),
            ((one.holds, _size(one.size_bytes), one.path, _size(one.free_bytes)) for one in found.caches),
        )
    )
    show(f"model hub: {found.hub}")
    for note in found.notes:
        show(f"note: {note}")
    for problem in found.problems:
        show(f"problem: {problem}")
    if not found.problems:
        show("No problems found.")


def _size(size: int | None) -> str:
    if size is None:
        return "none"
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
