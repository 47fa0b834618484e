"""English words that sentences are made of."""

from __future__ import annotations


def plural(noun: str) -> str:
    """The regular English plural: genres, categories, classes."""
    if noun.endswith("y") and noun[-2:-1] not in set("aeiou"):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")
