"""The notebook: its cells run one after the other, offline and without a notebook's program."""

import json
import os
import subprocess
import sys

import pytest

from tests.documentation import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "tour.ipynb").read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

OFFLINE = """\
import socket

connect = socket.socket.connect


def connect_here(self, address):
    if self.family != socket.AF_UNIX:  # data workers hand over memory through those
        raise OSError(f"the notebook asked the network for {address}")
    return connect(self, address)


socket.socket.connect = connect_here
"""


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute where nothing else runs
def test_the_cells_run_as_a_script(tmp_path, rendered):
    """The videos are rendered already, which takes a minute more."""
    script = tmp_path / "tour.py"
    script.write_text("\n\n".join([OFFLINE, *CODE]))
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "VLBENCH_DATA": str(rendered), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results" / "records").iterdir()}
    assert {name: record["evaluated"] for name, record in records.items()} == {"zero_shot": 160, "mote": 160}
    assert records["mote"]["metrics"]["top1"] > records["zero_shot"]["metrics"]["top1"] + 10
    assert "order score" in ended.stdout
    for page in ("leaderboard.html", "audit.html"):
        assert (tmp_path / page).read_text().startswith("<!doctype html>")


@pytest.mark.quick
def test_it_is_a_notebook_without_outputs():
    """The format's version 4.5: cells have ids of their own; no output of a machine is in it."""
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert set(NOTEBOOK) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    cells = NOTEBOOK["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source", *code}
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert cell["source"]
        assert all(isinstance(line, str) for line in cell["source"])
