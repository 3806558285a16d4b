"""Where and with what code a test ran, as its record says."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from typing import TypedDict

import torch

import vlbench
from vlbench.commit import git_commit
from vlbench.processes import peak_resident_bytes

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
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if cuda else peak_resident_bytes(),
        "vlbench": vlbench.__version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "packages": dict(_versions()),
    }


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}
