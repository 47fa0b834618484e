"""The model hub: model names, downloads and uploads, with errors in one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from palate.errors import DataError, OutputError, PalateError

HUB_ERRORS: tuple[type[Exception], ...] = (
    HfHubHTTPError,
    HfHubHTTPError.__bases__[0],
    HFValidationError,
    OSError,
)
"""Errors that the hub's client raises: its own, those of its HTTP library (whichever it is), and missing files."""
RUNS = Path("runs")
"""Default parent folder of runs; it is no owner on the hub, whether it exists or not."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(name: Path | str) -> bool:
    """Return whether ``OWNER/NAME`` is looked up on the hub: OWNER is neither an existing folder nor ``runs``."""
    text = name.as_posix() if isinstance(name, Path) else name
    return _NAME.fullmatch(text) is not None and not _is_local(Path(text).parent)


def check_not_misspelt(name: Path | str) -> None:
    """Raise :class:`DataError` if ``OWNER/NAME`` is a path, by its first part, and does not exist."""
    path = Path(name)
    if _NAME.fullmatch(path.as_posix()) and _is_local(path.parent) and not path.exists():
        raise DataError("the folder does not exist; expected a run that 'palate train' finished", path)


def _is_local(owner: Path) -> bool:
    return owner.exists() or owner == RUNS


def download_model(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Download a model from the hub, unless it is cached.

    Args:
        name: ``OWNER/NAME`` on the hub.
        revision: Branch, tag or commit; the main branch if None.
        patterns: Glob patterns of the files to download, such as ``"*.json"``.

    Returns:
        Its folder in the hub's cache.

    Raises:
        DataError: The model does not exist, or it is not cached and the hub is unreachable.
    """
    with _converted_errors(
        lambda reason: DataError(f"not a folder, and could not be loaded from the hub ({reason})", name)
    ):
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))


def upload_model(
    folder: Path,
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "Upload a palate model",
    token: str | None = None,
) -> str:
    """Upload a folder as a model to the hub, in one commit.

    Args:
        folder: Folder to upload.
        name: ``OWNER/NAME``; created if it does not exist.
        private: Whether a new model is private; as the owner's settings say if None.
        revision: Branch, created if it does not exist; the main branch if None.
        message: Commit message.
        token: Access token; that of ``hf auth login`` if None.

    Returns:
        URL of the commit.

    Raises:
        OutputError: The hub is unreachable, or refuses the upload.
    """
    api = HfApi(token=token)
    with _converted_errors(
        lambda reason: OutputError(f"{name} cannot be written to the hub {api.endpoint} ({reason})")
    ):
        made = api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(made.repo_id, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=made.repo_id, folder_path=folder, revision=revision, commit_message=message
        )
        return str(done.commit_url)


def reason_of(error: Exception) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def _converted_errors(convert: Callable[[str], PalateError]) -> Iterator[None]:
    """Convert errors of the hub's client, given their reason in one line, to palate's."""
    try:
        yield
    except HUB_ERRORS as error:
        raise convert(reason_of(error)) from error
