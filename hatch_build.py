"""Build hook of hatchling: a wheel and an sdist name the commit that they were built from."""

from __future__ import annotations

import runpy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface[Any]):
    """Adds the file that `vlbench.commit` reads; an editable install asks git instead."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Writes the file to a folder that is there until the build ends: in the checkout it would soon be wrong."""
        root = Path(self.root)
        code = runpy.run_path(str(root / "vlbench" / "commit.py"))
        commit = code["commit_of"](root)
        if version == "editable" or commit is None:
            return
        self._folder = TemporaryDirectory(ignore_cleanup_errors=True)
        file = Path(self._folder.name, "COMMIT")
        file.write_text(f"{commit}\n")
        build_data["force_include"][str(file)] = code["BUILT_FROM"]

    def finalize(self, *_: Any) -> None:
        """Removes what `initialize` has written."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
