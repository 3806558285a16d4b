"""The process that stages are forked from."""

import json
import subprocess
import sys
import time

import pytest

from vlbench.protocols.launchers import LocalLauncher

# Whoever asks for GPUs in a way that starts CUDA, or starts a thread, makes what is forked later fail or hang.
IMPORTED = """
import json, threading, torch
asked = []
for module, name in ((torch._C, "_cuda_getDeviceCount"), (torch._C, "_cuda_init")):
    if hasattr(module, name):
        setattr(module, name, lambda name=name: asked.append(name) or 0)
import vlbench.cli.worker
import os
print(json.dumps({"asked": asked, "threads": len(os.listdir("/proc/self/task")), "cuda": torch.cuda.is_initialized()}))
"""


def test_what_is_imported_can_be_forked():
    found = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        capture_output=True, text=True, check=True, env=LocalLauncher().environment,
    )  # fmt: skip
    assert json.loads(found.stdout) == {"asked": [], "threads": 1, "cuda": False}


@pytest.mark.slow
def test_a_stage_says_what_the_command_says(tmp_path):
    launcher, logs = LocalLauncher(), [tmp_path / "help.log", tmp_path / "wrong.log"]
    try:
        codes = []
        for arguments, log in zip((["fit", "--help"], ["fit", "--config", "msta_fewshto.yaml"]), logs, strict=True):
            log.touch()
            job = launcher.start("a", "b", arguments, log)
            while (code := job.poll()) is None:
                time.sleep(launcher.interval)
            codes.append(code)
    finally:
        launcher.close()
    assert codes == [0, 2]
    assert "usage: vlbench" in logs[0].read_text()
    assert "did you mean msta_fewshot.yaml" in logs[1].read_text()
