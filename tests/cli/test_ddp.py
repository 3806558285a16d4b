"""Two gloo processes against one."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_two_processes_make_the_record_of_one(workplace):
    """13 batches of videos on two processes: not divisible, and still every video exactly once."""
    configs = ["zero_shot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    base = [sys.executable, "-m", "vlbench", "test", *(part for name in configs for part in ("--config", name))]
    base += ["--data.num_workers=0", "--data.eval_batch_size=7"]
    records = []
    for processes in (1, 2):
        folder = f"results{processes}"
        options = [f"--trainer.devices={processes}", f"--record.folder={folder}"]
        if processes > 1:
            options.append("--trainer.strategy=ddp")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*base, *options], check=True, env=environment, timeout=240)
        (path,) = (workplace / folder / "records").iterdir()
        records.append(json.loads(path.read_text()))
    one, two = records
    assert two["details"].pop("processes") == 2
    for record in records:
        for key in ("processes", "seconds", "peak_memory_bytes", "config_digest"):
            record["details"].pop(key, None)
    assert one == two
