"""Which GPUs there are, and which of them each of several stages at once gets; imports no torch and starts no CUDA."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from itertools import takewhile

_CUDA, _HIP = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"


def visible_variable(environment: Mapping[str, str]) -> str:
    """Variable by which a process is shown some of the GPUs only: CUDA's, or ROCm's where that is set.

    Args:
        environment: Environment variables of the process.
    """
    # With a driver of NVIDIA's, ROCm's variable is a leftover. ROCm's torch takes CUDA's too, but its own before it.
    return _HIP if _HIP in environment and not count_devices() else _CUDA


def visible_devices(environment: Mapping[str, str]) -> tuple[str, ...]:
    """GPUs that a process with these variables sees, as `CUDA_VISIBLE_DEVICES` names them: numbers or UUIDs.

    Args:
        environment: Environment variables of the process.
    """
    variable, count = visible_variable(environment), count_devices()
    if variable not in environment:
        return tuple(map(str, range(count)))

    def known(entry: str) -> bool:
        if entry.isdecimal():
            return int(entry) < count or not count  # without NVIDIA's driver nothing says how many there are
        return entry.startswith(("GPU-", "MIG-"))

    # CUDA shows the ones before the first entry that is no device, such as -1.
    return tuple(takewhile(known, (entry.strip() for entry in environment[variable].split(","))))


def count_devices() -> int:
    """Number of GPUs of this machine, asked of the driver's management library; 0 without a driver."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        if library.nvmlInit_v2() != 0:
            return 0
        count = ctypes.c_uint()
        failed = library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0
        library.nvmlShutdown()
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value


def shares(devices: tuple[str, ...], jobs: int) -> list[tuple[str, ...]]:
    """GPUs of each of several stages at once; equally many, since a stage on more GPUs makes another record.

    Args:
        devices: GPUs to share out; the ones that are left over stay unused.
        jobs: Number of stages at once; more stages than GPUs share these in turn.

    Example:
        >>> shares(("0", "1", "2", "3", "4"), jobs=2)
        [('0', '1'), ('2', '3')]
        >>> shares(("0", "1"), jobs=3)
        [('0',), ('1',), ('0',)]
    """
    if not devices:
        return [()] * jobs
    each = max(1, len(devices) // max(1, jobs))
    return [tuple(devices[(slot * each + k) % len(devices)] for k in range(each)) for slot in range(jobs)]
