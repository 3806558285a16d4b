"""The same evaluation on one to four gloo processes."""

import json
import os
import subprocess
import sys

import pytest
from safetensors import safe_open

from tests.tolerance import assert_same_bits

# One interpreter imports torch and Lightning and forks each group of processes, in torchrun's environment.
FORKED = """
import os, socket, sys, traceback
from vlbench.cli.main import main

def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]

def run(processes, arguments):
    port = free_port()
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), GROUP_RANK="0", WORLD_SIZE=str(processes),
                LOCAL_WORLD_SIZE=str(processes), TORCHELASTIC_RUN_ID="test", MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
            )
            try:
                code = main(arguments)
            except BaseException:
                code = 1
                traceback.print_exc()
            os._exit(code)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)

import vlbench.cli.trainer
for processes in range(1, 5):
    arguments = sys.argv[1:] + [f"--trainer.devices={processes}", f"--record.folder=of{processes}"]
    if processes > 1:
        arguments.append("--trainer.strategy=ddp")
    if run(processes, arguments):
        sys.exit(1)
"""

CONFIGS = ["zero_shot.yaml", "data/folder.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]


@pytest.fixture
def kitchen(workplace, rendered):
    """Four classes, eleven test videos, one of them no video; the third class has the least training videos."""
    source = rendered / "synthetic" / "shapes-s"
    folder = workplace / "kitchen"
    folder.mkdir()
    (folder / "classes.txt").write_text("".join(f"class {name}\n" for name in "abcd"))
    for part, counts in (("train", (4, 3, 1, 2)), ("test", (3, 3, 2, 2))):
        lines = (source / f"{part}.txt").read_text().splitlines()
        chosen = [
            line
            for label, count in enumerate(counts)
            for line in [line for line in lines if int(line.split()[1]) == label][:count]
        ]
        (folder / part).symlink_to(source / part)
        (folder / f"{part}.txt").write_text("\n".join([*chosen, *(["broken.mp4 1"] if part == "test" else [])]))
    (folder / "broken.mp4").write_text("no video")
    return folder


def evaluate(workplace, *options):
    arguments = ["test", *(part for name in CONFIGS for part in ("--config", name)), "--data.root=kitchen"]
    arguments += ["--data.num_workers=0", "--data.loading.eval_batch_size=2", "--data.clip.views.clips=2", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", FORKED, *arguments],
        env=environment,
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [read(workplace / f"of{processes}", processes) for processes in range(1, 5)]


def read(folder, processes):
    """What a run left, by record name: the record without what may differ, and the stored predictions."""
    found = {}
    for path in (folder / "records").iterdir():
        record = json.loads(path.read_text())
        details = record["details"]
        assert details.pop("processes") == processes
        for key in ("seconds", "videos_per_second", "peak_memory_bytes", "config_digest", "command"):
            details.pop(key, None)
        del record["predictions"]  # the digest of a file that holds a copy of the record
        with safe_open(folder / "predictions" / f"{path.stem}.safetensors", "pt") as file:
            found[path.stem] = record, file.metadata()["ids"], {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return found


def check_equal(runs):
    first, *others = runs
    for other in others:
        assert other.keys() == first.keys()
        for name, (record, ids, tensors) in first.items():
            assert other[name][:2] == (record, ids)
            for key, value in tensors.items():
                assert_same_bits(other[name][2][key], value)


@pytest.mark.slow
def test_eleven_videos_one_of_them_broken(workplace, kitchen):
    """Two class lists in one pass."""
    (workplace / "halves.yaml").write_text("data: {init_args: {test: [{classes: base}, {classes: novel}]}}")
    runs = evaluate(workplace, "--config=halves.yaml")
    check_equal(runs)
    records = sorted((record for record, _, _ in runs[0].values()), key=lambda record: record["expected"])
    novel, base = records
    assert [base["identity"]["test"]["classes"], novel["identity"]["test"]["classes"]] == ["base", "novel"]
    assert (base["expected"], base["evaluated"], list(base["failures"])) == (7, 6, ["broken.mp4"])
    assert (novel["expected"], novel["evaluated"], novel["failures"]) == (4, 4, {})
    assert base["details"]["classes"] == ["class a", "class b"]


@pytest.mark.slow
def test_three_videos_leave_a_process_without_one(workplace, kitchen):
    lines = (kitchen / "test.txt").read_text().splitlines()
    (kitchen / "test.txt").write_text("\n".join([lines[0], lines[4], lines[-1]]))
    runs = evaluate(workplace)
    check_equal(runs)
    ((record, ids, tensors),) = runs[0].values()
    assert (record["expected"], record["evaluated"], len(json.loads(ids))) == (3, 2, 2)
    assert tensors["scores"].shape == (2, 4)
