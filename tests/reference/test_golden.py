"""The golden tests themselves: cases come from whatever files there are, and a wrong value fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.reference.golden import COMMITTED, golden_cases

ROOT = Path(__file__).resolve().parents[2]


def copy(name: str, to: Path) -> None:
    for suffix in (".json", ".safetensors"):
        source = COMMITTED / f"{name}{suffix}"
        if source.is_file():
            shutil.copyfile(source, to.with_suffix(suffix))


def smallest(kind: str) -> str:
    """Name of the smallest committed case of a kind."""
    return min(COMMITTED.glob(f"{kind}*.safetensors"), key=lambda path: path.stat().st_size).stem


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Tests of this folder, run on the cases of one golden folder alone."""
    targets = [f"tests/reference/{test}" for test in tests]
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", "other-", *targets]
    environment = {**os.environ, "VLBENCH_GOLDEN": str(folder), "PYTHONPATH": str(ROOT)}
    environment.pop("VLBENCH_FIDELITY", None)  # a value that is wrong on purpose says nothing of a method
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_renamed_cases_of_another_size_run(tmp_path):
    """Another folder: other names, one clip instead of the whole batch, another subset of the tensors."""
    copy(smallest("mote_head"), tmp_path / "mote_head_renamed")
    path = tmp_path / "mote_head_renamed.safetensors"
    tensors = load_file(path)
    assert len(tensors["in.frames"]) > 1
    # Losses are means over the batch, so that they go; merged weights have no batch; everything else is a clip's own.
    tensors = {key: value for key, value in tensors.items() if "loss" not in key and "mse" not in key}
    batched = {key for key in tensors if key.startswith(("in.frames", "in.labels", "eval.", "train.", "none_head."))}
    for key in batched - {key for key in batched if "merged" in key}:
        tensors[key] = tensors[key][:1].clone()
    save_file(tensors, path)
    result = run(tmp_path, "test_mote_head.py")
    assert result.returncode == 0, result.stdout
    assert "test_evaluation[other-mote_head_renamed] PASSED" in result.stdout


def test_one_wrong_value_fails(tmp_path):
    copy(smallest("mote_head"), tmp_path / "mote_head_wrong")
    path = tmp_path / "mote_head_wrong.safetensors"
    tensors = load_file(path)
    tensors["eval.tfm.feat"][0, 0, 0] += 1e-3 * tensors["eval.tfm.feat"].abs().max()
    save_file(tensors, path)
    indices = json.loads((COMMITTED / "sampling.json").read_text())["test_uniform"]
    next(iter(indices.values()))[0][0] += 1
    (tmp_path / "sampling_wrong.json").write_text(json.dumps({"test_uniform": indices}))
    result = run(tmp_path, "test_mote_head.py::test_evaluation", "test_sampling_golden.py")
    assert result.returncode == 1, result.stdout
    assert "test_evaluation[other-mote_head_wrong] FAILED" in result.stdout
    assert "test_uniform_test_indices[other-sampling_wrong] FAILED" in result.stdout


def test_a_kind_without_cases_is_skipped_with_a_reason():
    (parameter,) = golden_cases("no_such_method/step", "out.losses")
    (mark,) = parameter.marks
    assert mark.name == "skip"
    assert "no golden case no_such_method/step* with out.losses in " in mark.args[0]


def test_a_folder_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("VLBENCH_GOLDEN", str(tmp_path / "missing"))
    with pytest.raises(pytest.UsageError, match="missing', which is no folder"):
        golden_cases("mote_head")


def test_the_committed_folder_is_small():
    assert sum(path.stat().st_size for path in COMMITTED.rglob("*")) < 20e6
