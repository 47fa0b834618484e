"""Diagnosis of an installation: versions, devices, extras, caches and problems."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from palate.system.caches import Cache, list_caches
from palate.system.extras import (
    DISTRIBUTION,
    EXTRAS,
    add_line,
    install_line,
    installed_from,
    installed_version,
    missing_modules,
)
from palate.system.machine import checkout_commit, describe_machine

_WITHOUT_CUDA = "https://download.pytorch.org/whl/cpu"
_OWN_MODEL = ("config.json", "model.safetensors", "backbone")


@dataclass(frozen=True)
class InstalledPackage:
    """A package that palate requires without any extra."""

    name: str
    version: str | None
    """None if it is not installed."""
    expected: str
    """Version range, as in pyproject.toml."""
    fits: bool


@dataclass(frozen=True)
class FoundDevice:
    """A device that models can compute on."""

    name: str
    """Value for ``--device``."""
    what: str


@dataclass(frozen=True)
class FoundExtra:
    """An extra and its missing modules."""

    name: str
    needed_for: str
    installed: bool
    missing: tuple[str, ...]
    """Modules of the extra that are not installed."""
    install: str
    """Command that installs the extra here."""


@dataclass(frozen=True)
class Diagnosis:
    """Result of :func:`diagnose`."""

    palate: str | None
    installed_from: str
    commit: str | None
    """Git commit of a checkout; None for an installed package."""
    python: str
    machine: str
    packages: tuple[InstalledPackage, ...]
    devices: tuple[FoundDevice, ...]
    default_device: str | None
    """Device of ``--device auto``; None if torch cannot be loaded."""
    extras: tuple[FoundExtra, ...]
    caches: tuple[Cache, ...]
    hub: str
    """URL of the model hub, or that it is switched off."""
    notes: tuple[str, ...]
    """Suggestions about what works, but not optimally."""
    problems: tuple[str, ...]
    """What does not work, each with a remedy."""


def diagnose() -> Diagnosis:
    """Diagnose this installation; loads torch, opens no connection and changes nothing."""
    packages = tuple(_packages())
    devices, notes, problems = _devices()
    problems = [*_wrong_packages(packages), *problems, *_own_model()]
    machine = describe_machine()
    memory = "" if machine.memory_gib is None else f", {machine.memory_gib} GiB"
    return Diagnosis(
        palate=installed_version(DISTRIBUTION),
        installed_from=installed_from(),
        commit=checkout_commit(),
        python=platform.python_version(),
        machine=f"{machine.system}, {machine.processor}, {machine.cores} cores{memory}",
        packages=packages,
        devices=tuple(devices),
        default_device=devices[min(1, len(devices) - 1)].name if devices else None,
        extras=tuple(_extras()),
        caches=list_caches(),
        hub=_hub(),
        notes=tuple(notes),
        problems=tuple(problems),
    )


def _packages() -> Iterator[InstalledPackage]:
    """Compare palate's required packages with the installed ones."""
    try:
        wanted = map(Requirement, importlib.metadata.requires(DISTRIBUTION) or ())
    except importlib.metadata.PackageNotFoundError:
        return  # run from a checkout that is not installed
    for one in wanted:
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            version = installed_version(one.name)
            fits = version is not None and one.specifier.contains(version, prereleases=True)
            yield InstalledPackage(one.name, version, str(one.specifier), fits)


def _wrong_packages(packages: tuple[InstalledPackage, ...]) -> Iterator[str]:
    for one in packages:
        if not one.fits:
            found = f"{one.version} is installed" if one.version else "it is not installed"
            requirement = f"{one.name}{one.expected}"
            yield f"{one.name}: {found}, expected {one.expected or 'any version'}; run  {add_line(requirement)}"


def _devices() -> tuple[list[FoundDevice], list[str], list[str]]:
    """Return devices (the CPU first), notes and problems."""
    try:
        import torch
    except (ImportError, OSError) as error:  # torch or one of its libraries is missing
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return [], [], [f"torch cannot be loaded ({reason}); install it again"]
    found = [FoundDevice("cpu", f"{torch.get_num_threads()} threads")]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        found.append(FoundDevice(f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {memory:.0f} GiB"))
    built_for = torch.version.cuda or getattr(torch.version, "hip", None)
    notes = []
    if built_for and len(found) == 1:
        smaller = add_line("torch", "--force-reinstall", "--index-url", _WITHOUT_CUDA)
        notes.append(
            f"torch {torch.__version__} is built for GPUs but finds none; {smaller}  saves gigabytes"
        )
    return found, notes, []


def _extras() -> Iterator[FoundExtra]:
    for name, extra in EXTRAS.items():
        missing = missing_modules(name)
        yield FoundExtra(name, extra.needed_for, not missing, missing, install_line(name))


def _own_model() -> Iterator[str]:
    folder = Path(__file__).parents[1] / "packaged"
    absent = [name for name in _OWN_MODEL if not (folder / name).exists()]
    if absent:
        yield f"palate's own model lacks {', '.join(absent)} in {folder}; install palate again"


def _hub() -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "switched off by HF_HUB_OFFLINE"
    named = " (HF_ENDPOINT)" if "HF_ENDPOINT" in os.environ else ""
    return f"{constants.ENDPOINT}{named}"
