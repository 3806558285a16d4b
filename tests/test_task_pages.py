"""The pages by task: their commands work one after the other, as they stand, on the synthetic set.

A page is found by its place in the navigation. Its files (blocks whose title is their name) are written, then the
commands of its bash blocks run in a folder that is empty otherwise. A bash block with a title says in it what it needs
and does not run here; that its options exist is tested with those of all pages (`tests/test_docs.py`).
"""

import re
import sys
from pathlib import Path

import pytest

from tests.documentation import SHORTER, blocks, lines, task_pages
from vlbench.cli.main import main
from vlbench.protocols import launchers

TASKS = task_pages()


class Ended:
    """A stage that has run."""

    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code


class InProcess(launchers.LocalLauncher):
    """Runs the stages of a suite here, where torch and Lightning are imported already."""

    def start(self, name, digest, arguments, log):
        log.touch()
        return Ended(main(arguments))


@pytest.mark.slow
@pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_one_after_the_other(page, workplace, monkeypatch):
    monkeypatch.setattr(launchers, "LocalLauncher", InProcess)
    monkeypatch.syspath_prepend(str(workplace))  # what `python -m vlbench` does
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    written = blocks(page.read_text())
    for block in written:
        if block.title and block.language != "bash":
            Path(block.title).write_text(block.text)
    typed = [words for block in written if block.language == "bash" and not block.title for words in lines(block.text)]
    assert typed
    for words in typed:
        words = words[2:] if words[:3] == ["python", "-m", "vlbench"] else words
        assert words[0] == "vlbench", f"{words} is run by nothing; give its block a title that says what it needs"
        assert main([*words[1:], *SHORTER.get(words[1], [])]) == 0, words


@pytest.mark.quick
@pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)
def test_what_does_not_run_says_what_it_needs(page):
    titles = [block.title for block in blocks(page.read_text()) if block.language == "bash" and block.title]
    assert [title for title in titles if not re.match(r"(needs|takes) ", title)] == []
