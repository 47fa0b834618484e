"""Writes a report: a self-contained HTML page, and its data as JSON, from which the page can be rebuilt."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ValidationError

from palate.errors import DataError, OutputError, faults
from palate.report.data import ReportData
from palate.report.view import ReportView
from palate.system.files import write_text


def build_report(data: ReportData, path: Path) -> Path:
    """Write a report as HTML, and its data as JSON beside it.

    Args:
        data: The report's data.
        path: The page, which ends in ``.html``; the data's file has the same name with ``.json``.

    Returns:
        The path of the page.

    Raises:
        OutputError: The path does not end in ``.html`` or cannot be written.
    """
    if path.suffix != ".html":
        raise OutputError(
            f"{path}: expected a file name ending in .html; the data is written beside it as .json"
        )
    page = render_report(data)
    write_text(path.with_suffix(".json"), data.model_dump_json(indent=2) + "\n")
    write_text(path, page)
    return path


def read_report(path: Path) -> ReportData:
    """Load a report's data from JSON; raises :class:`DataError` if it is invalid."""
    try:
        return ReportData.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror}); expected the .json beside a report", path
        ) from error
    except ValidationError as error:
        raise DataError(f"{faults(error)}; expected the .json beside a report", path) from error


def render_report(data: ReportData) -> str:
    """Render the page; the output is deterministic."""
    return render_page("page.html", title=data.title, data=data, view=ReportView(data))


def render_page(template: str, **values: Any) -> str:
    """Render a template of this package with the shared style sheet."""
    environment = Environment(
        loader=PackageLoader("palate", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, amount=amount, score="{:.3f}".format)
    style = resources.files("palate.report").joinpath("style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=Markup(style), **values)  # our own file, not input


def duration(seconds: float) -> str:
    """Format seconds as 45 s, 12 min or 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def amount(value: float) -> str:
    """Format a count such as 16,240; means below ten keep a decimal."""
    return f"{value:,.1f}" if value < 10 and value != round(value) else f"{value:,.0f}"
