"""Fixtures for every test: where the reference material lies, if it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden tensors; skips the test where there is none."""
    folder = Path(os.environ.get("VLBENCH_GOLDEN", _SHARED / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}; set VLBENCH_GOLDEN")
    return folder


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """Folder of real video clips; skips the test where there is none."""
    folder = _SHARED / "videos"
    if not folder.is_dir():
        pytest.skip(f"no videos at {folder}")
    return folder
