"""Commit of the code: of the checkout that it lies in, or the one that its wheel was built from.

Imports the standard library only: `hatch_build.py` runs this file where vlbench is built.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

BUILT_FROM = "vlbench/COMMIT"
"""File of a wheel and of an sdist that names their commit, below the folder that vlbench is imported from."""


def commit_of(root: Path) -> str | None:
    """Commit of the code below a folder, 40 hexadecimal digits, ending in `-dirty` if files differ from it.

    Args:
        root: Folder that vlbench lies in: a checkout, an unpacked sdist, or the site-packages of a wheel.

    Returns:
        `None` where neither git nor the build has left a commit.
    """
    if not (root / ".git").exists():
        stated = root / BUILT_FROM
        return stated.read_text().strip() if stated.is_file() else None
    describe = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip() or None
    except FileNotFoundError:  # a copied checkout on a machine without git
        return None


@cache
def git_commit() -> str | None:
    """Commit of the code that this process runs, as `commit_of` gives it.

    Asked for once: a process goes on with the code that it has loaded, whatever becomes of the files.
    """
    return commit_of(Path(__file__).parents[1])
