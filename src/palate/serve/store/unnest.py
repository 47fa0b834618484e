"""Arrays as parameters of PostgreSQL: one statement, the same for any number of rows, in the place of one per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    TableValuedAlias,
    Text,
    Tuple,
    cast,
    column,
    func,
    literal,
    select,
)


def among(which: ColumnElement[Any] | Tuple, values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that a column, or a tuple of columns, is among the values."""
    columns = list(which.clauses) if isinstance(which, Tuple) else [which]
    rows = values if isinstance(which, Tuple) else [(value,) for value in values]
    return which.in_(select(*_unnested([one.type for one in columns], rows).c))


def unnested(columns: Mapping[str, Column[Any]], rows: Sequence[Mapping[str, Any]]) -> TableValuedAlias:
    """Return rows as a table.

    Args:
        columns: The columns that the values under these keys belong to.
        rows: The rows.
    """
    types = [one.type for one in columns.values()]
    return _unnested(types, [tuple(row[name] for name in columns) for row in rows], list(columns))


def _unnested(
    types: Sequence[Any], rows: Sequence[Sequence[Any]], names: Sequence[str] = ()
) -> TableValuedAlias:
    named = names or [f"value_{number}" for number in range(len(types))]
    arrays = (
        cast(literal(array_literal([row[number] for row in rows]), Text), ARRAY(kind))
        for number, kind in enumerate(types)
    )
    table = func.unnest(*arrays).table_valued(
        *(column(name, kind) for name, kind in zip(named, types, strict=True)), name="given"
    )
    return table.render_derived()


def array_literal(values: Sequence[str | bytes | float | None]) -> str:
    """Return PostgreSQL's text form of an array, which takes psycopg itself several times as long."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: str | bytes | float | None) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    return "NULL" if value is None else str(value)
