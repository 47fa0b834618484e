"""Package versions, git commit and machine, as recorded with results."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.system.extras import installed_version
from palate.system.records import Frozen

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Constants of glibc's malloc.h."""
_PACKAGES = ("palate", "torch", "transformers", "sentence-transformers", "numpy", "polars")


class Machine(Frozen):
    """The machine of a result."""

    system: str
    processor: str
    cores: int  # available to this process
    memory_gib: float | None
    gpu: str | None
    threads: int | None = None
    """CPU threads of torch, if it was loaded."""


def describe_machine() -> Machine:
    """Describe this machine; its GPU only if torch is already loaded, because detection would load it."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        gpu=_gpu(),
        threads=_threads(),
    )


def peak_memory_gib() -> float:
    """Return the peak memory of this process and its ended children in GiB; 0 if the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most * unit / 2**30


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the system.

    Each training step on the CPU allocates the same large blocks. Blocks that were returned to the system come back as
    zeroed pages, which takes a fifth of the time for large blocks.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def reproducible(threads: int | None, device: torch.device) -> Iterator[None]:
    """Make CPU computations bit-reproducible during the block.

    Summation order affects rounding, so the thread pools of numpy and scikit-learn are limited to the same number of
    threads, and torch uses deterministic algorithms. On a GPU, where some operations have no deterministic variant,
    only the number of threads is set.

    Args:
        threads: Number of CPU threads; unchanged if None.
        device: Device of the models.
    """
    import torch
    from threadpoolctl import threadpool_limits

    before, fixed = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    deterministic: Any = torch.utils.deterministic
    filling = deterministic.fill_uninitialized_memory
    threads = threads or before
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(fixed or device.type == "cpu")
    deterministic.fill_uninitialized_memory = False  # saves time; no code reads uninitialised memory
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(fixed)
        deterministic.fill_uninitialized_memory = filling


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of packages that affect results, without importing them."""
    found = {name: installed_version(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | {name: one for name, one in found.items() if one}


def checkout_commit() -> str | None:
    """Return the git commit of this code, with ``-dirty`` if it is modified; None for an installed package."""
    here = Path(__file__)
    if _git("ls-files", "--error-unmatch", here.name) is None:
        return None  # a repository around the installed package is not palate's
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else None


def _gpu() -> str | None:
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
