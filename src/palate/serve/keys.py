"""API keys: a file with one on each line, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from palate.errors import DataError

LEAST = 16
"""Characters of a key; shorter ones can be guessed."""


class Keys:
    """The keys that a server knows, of which it keeps digests alone."""

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"no API keys can be read ({error}); give a file with a key a line", path
            ) from error
        numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
        keys = [(number, key) for number, key in numbered if key and not key.startswith("#")]
        for number, key in keys:
            if len(key) < LEAST or not key.isascii() or not key.isprintable() or " " in key:
                raise DataError(
                    f"not an API key; expected {LEAST} or more letters and digits, "
                    "as from  python -c 'import secrets; print(secrets.token_urlsafe())'",
                    path,
                    number,
                )
        if not keys:
            raise DataError("no API key; expected one a line", path)
        self._digests = [_digest(key) for _, key in keys]

    def knows(self, key: str) -> bool:
        """Whether it is one of them; the time that this takes does not tell how close it is."""
        asked = _digest(key)
        matches = [hmac.compare_digest(asked, known) for known in self._digests]
        return any(matches)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
