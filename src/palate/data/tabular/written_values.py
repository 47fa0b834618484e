"""Parses lists and records written as text by JSON, Python, numpy, PostgreSQL, R and others."""

from __future__ import annotations

import re
from typing import TypeAlias

Written: TypeAlias = "str | list[Written] | dict[str, Written] | None"
"""A parsed value: text, None, a sequence of any kind as a list, or a record."""

_DEEPEST = 30
_CLOSER = {"[": "]", "{": "}", "(": ")"}
_SPACE = re.compile(r"\s*")
_QUOTED = re.compile(r"""[bu]?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.DOTALL)
_CALL = re.compile(
    r"(?:np\.|numpy\.|pd\.)?(?:array|list|tuple|set|frozenset|deque|Index|Series|dict|dict_keys|dict_values|str_|"
    r"c(?=\(['\"])|Counter|OrderedDict|WrappedArray|ArrayBuffer|ArraySeq|List|Set|Seq|Vector)\("
)
_KEYWORD = re.compile(r"\w+=[^,)]*")
_PLAIN_KEY = re.compile(r"""([^\s:=,{}\[\]'"][^:=,{}\[\]'"]*)(?::(?=[\s'"\[{])|=)""")
_AFTER_KEY = re.compile(r"\s*(?::|=>|=)")
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_WHOLE_NUMBER = re.compile(r"^([-+]?\d+)\.0*$")
_LITERAL = rf"(?:{_NUMBER}|None|nan|True|False)"
_SPACED_LITERALS = re.compile(rf"{_LITERAL}(?:\s+{_LITERAL})+\s*")
_LITERAL_BEFORE_QUOTE = re.compile(rf"""{_LITERAL}(?=\s+['"\[({{])""")
_SHORTENED = re.compile(r"(?:\.\.\.|…)(?:\s|$)")
_NOTHING = frozenset({"None", "null", "NULL", "nan", "NaN", "<NA>", "NaT"})
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_OPENS_QUOTED = re.compile(r"""[\[{(]\s*(?:[bu]?['"]|[\[{(])""")
_TUPLE_OF_NUMBERS = re.compile(rf"\(\s*{_NUMBER}\s*,(?:\s*{_NUMBER}\s*(?:,|(?=\))))*\s*\)")


class MalformedError(ValueError):
    """A text starts like a list or record but cannot be parsed."""


def read_written(text: str) -> list[Written] | dict[str, Written] | None:
    """Parse a list or record written as text. Nothing in the text is executed.

    Args:
        text: JSON (also inside a JSON string), a Python list, tuple, set or dict, a numpy array with or without
            commas, a PostgreSQL array, an R vector, or a list of unquoted names like ``[Folk, Hard Rock]``.

    Returns:
        The value: sequences and sets as lists, unquoted words and numbers as text. None for plain text, which does not
        look like a list or a record.

    Raises:
        MalformedError: The text looks like a list or a record but cannot be parsed.
    """
    text = text.strip()
    while (inner := _whole_string(text)) is not None:  # JSON may be nested in JSON strings
        text = inner.strip()
    if not _looks_written(text):
        return None
    reader = _Reader(text)
    value = reader.value(0, "")
    rest = text[reader.at :].strip()
    if not rest:
        assert isinstance(value, (list, dict))
        return value
    if _OPENS_QUOTED.match(text):
        raise MalformedError(f"is followed by {_shown(rest)} after its end")
    return None  # "[Folk] and [Techno]"


def unquoted(token: str) -> str:
    """Unescape a quoted token."""
    body = token[token.index(token[-1]) + 1 : -1]
    return _ESCAPE.sub(_unescaped, body).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _looks_written(text: str) -> bool:
    if call := _CALL.match(text):
        return text.endswith(")") and call.end() < len(text)
    opener = text[:1]
    if opener == "(":
        return text.endswith(")") and _opens_tuple(text, 0)
    return opener in ("[", "{") and (text.endswith(_CLOSER[opener]) or _OPENS_QUOTED.match(text) is not None)


def _opens_tuple(text: str, at: int) -> bool:
    """Return whether a parenthesis opens a tuple rather than a name like "(500) Days"."""
    return text[at : at + 1] == "(" and any(one.match(text, at) for one in (_OPENS_QUOTED, _TUPLE_OF_NUMBERS))


def _whole_string(text: str) -> str | None:
    """Unquote a double-quoted string with JSON or CSV escapes."""
    if len(text) < 2 or not (text[0] == text[-1] == '"'):
        return None
    if _QUOTED.fullmatch(text):
        return unquoted(text)
    inner = text[1:-1]
    return inner.replace('""', '"') if inner.count('"') == 2 * inner.count('""') else None


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code is None:
        return _CONTROLS.get(match[4], match[4] if match[4] in "\\/'\"" else match[0])
    return chr(min(int(code, 16), 0x10FFFF))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


class _Reader:
    """Recursive descent parser of one text; ``at`` is the current position."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def value(self, depth: int, closer: str) -> Written:
        """Parse the value at the current position, inside a bracket closed by ``closer``."""
        if depth > _DEEPEST:
            raise MalformedError(f"is nested deeper than {_DEEPEST} levels")
        if quoted := _QUOTED.match(self.text, self.at):
            self.at = quoted.end()
            return unquoted(quoted[0])
        if call := _CALL.match(self.text, self.at):
            self.at = call.end()
            return _called(call[0], self._sequence(depth, ")"))
        opener = self.text[self.at : self.at + 1]
        if opener == "[" or _opens_tuple(self.text, self.at):
            self.at += 1
            return self._sequence(depth, _CLOSER[opener])
        if opener == "{":
            self.at += 1
            return self._braces(depth)
        if opener in ("'", '"'):
            raise MalformedError("has a quote that is never closed")
        return self._bare(closer)

    def _sequence(self, depth: int, closer: str) -> list[Written]:
        """Parse elements up to ``closer``, separated by commas or white space."""
        found: list[Written] = []
        while not self._ends(closer):
            if closer == ")" and (keyword := _KEYWORD.match(self.text, self.at)):
                self.at = keyword.end()  # array([…], dtype=object)
                continue
            if spaced := self._spaced_literals(closer):
                found += spaced
                continue
            found.append(self.value(depth + 1, closer))
            self._expect_gap(closer)
        return found

    def _braces(self, depth: int) -> list[Written] | dict[str, Written]:
        """Parse a record, a set or a PostgreSQL array."""
        start = self.at
        if self._ends("}"):
            return []
        key = self._key()
        if key is None:
            self.at = start
            return self._sequence(depth, "}")
        record: dict[str, Written] = {}
        while key is not None:
            self._skip_space()
            record[key] = self.value(depth + 1, "}")
            self._expect_gap("}")
            if self._ends("}"):
                return record
            key = self._key()
        raise MalformedError(f"has no key where one is expected, at {_shown(self.text[self.at :])}")

    def _key(self) -> str | None:
        """Parse a key and the separator to its value."""
        if quoted := _QUOTED.match(self.text, self.at):
            after = _AFTER_KEY.match(self.text, quoted.end())
            if after is None:
                return None
            self.at = after.end()
            return unquoted(quoted[0])
        if plain := _PLAIN_KEY.match(self.text, self.at):
            self.at = plain.end()
            return plain[1].strip()
        return None

    def _bare(self, closer: str) -> str | None:
        """Parse unquoted words up to a comma or ``closer``."""
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in ("," + closer):
            self.at += 1
        word = self.text[start : self.at].strip()
        if _SHORTENED.match(word):
            raise MalformedError("was abbreviated with '...' when it was written; write it in full")
        if any(bracket in word for bracket in "[]{}"):
            raise MalformedError(f"has unbalanced brackets, at {_shown(self.text[start:])}")
        return _literal(word)

    def _spaced_literals(self, closer: str) -> list[Written]:
        """Parse numbers separated by white space only, as written by numpy; or one before a quoted text."""
        if one := _LITERAL_BEFORE_QUOTE.match(self.text, self.at):
            self.at = one.end()
            return [_literal(one[0])]
        run = _SPACED_LITERALS.match(self.text, self.at)
        if run is None or self.text[run.end() : run.end() + 1] != closer:
            return []
        self.at = run.end()
        return [_literal(word) for word in run[0].split()]

    def _ends(self, closer: str) -> bool:
        """Skip white space and commas, and ``closer`` if it is next; return whether it was."""
        while self.at < len(self.text) and (self.text[self.at].isspace() or self.text[self.at] == ","):
            self.at += 1
        if self.at >= len(self.text):
            raise MalformedError(f"is truncated: its closing {closer} is missing")
        if self.text[self.at] != closer:
            return False
        self.at += 1
        return True

    def _expect_gap(self, closer: str) -> None:
        after = self.text[self.at : self.at + 1]
        if after and not after.isspace() and after not in ("," + closer):
            raise MalformedError(f"has unbalanced quotes, at {_shown(self.text[self.at :])}")

    def _skip_space(self) -> None:
        space = _SPACE.match(self.text, self.at)
        assert space is not None
        self.at = space.end()


def _literal(word: str) -> str | None:
    """Parse an unquoted word: None for null, None and nan; integers without a fraction."""
    if word in _NOTHING or not word:
        return None
    return _WHOLE_NUMBER.sub(r"\1", word)


def _called(name: str, arguments: list[Written]) -> Written:
    """Parse the contents of ``array([…])``, ``str_('…')`` and the like."""
    if name.endswith("OrderedDict("):
        pairs = arguments[0] if arguments else []
        if not isinstance(pairs, list) or not all(isinstance(one, list) and len(one) == 2 for one in pairs):
            raise MalformedError("is an OrderedDict, expected pairs in it")
        return {str(pair[0]): pair[1] for pair in pairs if isinstance(pair, list)}
    return arguments
