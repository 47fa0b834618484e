"""API keys of a key file: authentication, permissions and rate limits."""

from __future__ import annotations

import hashlib
import hmac
import math
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from palate.errors import DataError

LEAST = 16
"""Minimum length of a key in characters; shorter ones can be guessed."""
READS = frozenset({"GET", "HEAD", "OPTIONS"})
ANSWERS = frozenset(
    {
        "/answers",
        "/attributions",
        "/choices",
        "/explanations",
        "/ratings",
        "/recommendations",
        "/tastes",
        "/v1/chat/completions",
        "/v1/completions",
        "/views",
    }
)
"""Allowlist of POST routes for read-only keys, none of which changes data."""
ADMINISTRATION = frozenset({"/upgrade"})
"""Routes whose requests other than reading need a key with ``admin``, as they concern all servers of the store."""
EXPECTED = "expected  KEY [name=NAME] [read-only or admin] [rate=REQUESTS A MINUTE]"


@dataclass
class ApiKey:
    """An API key, stored as a digest only."""

    digest: bytes
    name: str
    """Name in messages and in the deletion log."""
    read_only: bool = False
    admin: bool = False
    """Whether it may send the requests of :data:`ADMINISTRATION`, too."""
    rate: float = math.inf
    """Rate limit in requests per minute, also the maximum burst (token bucket)."""
    _left: float = field(default=math.inf, init=False)
    _counted: float = field(default=-math.inf, init=False)

    def refusal(self, method: str, path: str) -> str | None:
        """Return why the key is not authorised for a request; None if it is."""
        if method in READS or (method == "POST" and path in ANSWERS):
            return None
        if self.read_only:
            return f"the API key {self.name!r} is read-only; use another key for requests that change data"
        if path in ADMINISTRATION and not self.admin:
            return f"the API key {self.name!r} may not switch models; use a key with the option admin"
        return None

    def wait(self, now: float | None = None) -> float:
        """Count a request against the rate limit.

        Args:
            now: Time of a monotonic clock in seconds; the current time if None.

        Returns:
            0 if the request is allowed, else the seconds until one is; such a request is not counted.
        """
        if math.isinf(self.rate):
            return 0.0
        now = time.monotonic() if now is None else now
        passed = now - self._counted
        self._left = (
            min(self.rate, self._left + passed * self.rate / 60) if math.isfinite(passed) else self.rate
        )
        self._counted = now
        if self._left < 1:
            return (1 - self._left) * 60 / self.rate
        self._left -= 1
        return 0.0


class Keys:
    """The API keys of a file, one per line with its options.

    Raises:
        DataError: The file cannot be read, or a line is invalid.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"the API keys cannot be read ({error}); give a file with one key per line", path
            ) from error
        self._keys: list[ApiKey] = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.strip().startswith("#"):
                key = _read(line, path, number)
                if any(key.digest == other.digest for other in self._keys):
                    raise DataError("duplicate key, expected each key once; remove a line", path, number)
                self._keys.append(key)
        if not self._keys:
            raise DataError("found no API key, expected one per line", path)
        self.readable_by_others = bool(path.stat().st_mode & stat.S_IROTH)

    def find(self, key: str) -> ApiKey | None:
        """Find a key by constant-time comparison of digests; None if unknown."""
        asked, found = _digest(key), None
        for one in self._keys:
            if hmac.compare_digest(asked, one.digest):
                found = one
        return found


def _read(line: str, path: Path, number: int) -> ApiKey:
    key, *options = line.split()
    if len(key) < LEAST or not key.isascii() or not key.isprintable():
        raise DataError(
            f"not an API key; expected {LEAST} or more letters and digits, "
            "as from  python -c 'import secrets; print(secrets.token_urlsafe())'",
            path,
            number,
        )
    found = ApiKey(_digest(key), f"line {number}")
    for option in options:
        name, equals, value = option.partition("=")
        if option == "read-only":
            found.read_only = True
        elif option == "admin":
            found.admin = True
        elif name == "name" and value.isprintable() and 0 < len(value) <= 100:
            found.name = value
        elif name == "rate" and equals:
            found.rate = _rate(value, path, number)
        else:
            raise DataError(f"unknown or invalid option {option!r} of a key; {EXPECTED}", path, number)
    if found.read_only and found.admin:
        raise DataError(f"a key is both read-only and admin; {EXPECTED}", path, number)
    return found


def _rate(value: str, path: Path, number: int) -> float:
    try:
        rate = float(value)
    except ValueError:
        rate = math.nan
    if not 1 <= rate < math.inf:
        raise DataError(
            f"rate: found {value!r}, expected a number of requests a minute, 1 or more", path, number
        )
    return rate


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
