"""Where and with what code a test ran, as its record says."""

from __future__ import annotations

import platform
import re
import resource
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import torch

import vlbench
from vlbench.commit import git_commit

_PACKAGES = ("torch", "torchvision", "lightning", "numpy", "open_clip_torch", "av")


class Environment(TypedDict):
    """Fields of `Details` that say where and with what code a test ran."""

    device: str
    peak_memory_bytes: int
    vlbench: str
    git_commit: str | None
    python: str
    packages: dict[str, str]


def environment(device: torch.device) -> Environment:
    """Where and with what code this process runs.

    Args:
        device: Device that the test computes on.
    """
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"cpu ({platform.machine()})",
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if cuda else _peak_resident_bytes(),
        "vlbench": vlbench.__version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "packages": dict(_versions()),
    }


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def _peak_resident_bytes() -> int:
    """Most memory that this process has held since its program started, in bytes."""
    try:
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        peak = None
    # `ru_maxrss` begins with what the process held that started this one, which may be far more.
    return 1024 * (int(peak[1]) if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
