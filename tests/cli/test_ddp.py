"""Two gloo processes against one."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vlbench.results.kept_file import parse_kept
from vlbench.results.pairs import digest


@pytest.mark.slow
def test_two_processes_make_the_record_of_one(workplace):
    """13 batches of videos on two processes: not divisible, and still every video exactly once.

    The kept scores are the same, too, within what another batch rounds.
    """
    configs = ["zero_shot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    base = [sys.executable, "-m", "vlbench", "test", *(part for name in configs for part in ("--config", name))]
    base += ["--data.num_workers=0", "--data.loading.eval_batch_size=7", "--record.keep=[views,templates]"]
    records, kept = [], []
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
    for folder, record in (("results1", one), ("results2", two)):
        (path,) = (workplace / folder / "kept").iterdir()
        content = path.read_bytes()
        assert record["details"].pop("kept") == digest(content)
        kept.append(parse_kept(content, path))
    assert kept[0].ids == kept[1].ids
    assert kept[0].facts == kept[1].facts
    np.testing.assert_allclose(kept[0].scores, kept[1].scores, rtol=0, atol=1e-5)
    assert two["details"].pop("processes") == 2
    for record in records:
        for key in ("processes", "seconds", "videos_per_second", "peak_memory_bytes", "config_digest", "command"):
            record["details"].pop(key, None)
        del record["predictions"]  # the digest of a file that holds a copy of the record
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("branches", ["mote", "mote without merged experts", "msta"])
def test_two_processes_train_like_one(workplace, branches):
    """The same effective batch: losses within 1e-4 and weights within 1e-3 of a step, in float32, and no warning.

    Without the merged branch the experts that were not drawn get no gradient at all.
    """
    method = branches.partition(" ")[0]
    configs = [f"{method}_fewshot.yaml", f"demo/{method}.yaml", "data/synthetic.yaml", "backbone/tiny.yaml"]
    base = [sys.executable, "-m", "vlbench", "fit", *(part for name in configs for part in ("--config", name))]
    base += [
        "--data.num_workers=0",
        "--data.loading.effective_batch=8",
        "--data.train.shots=1",
        "--trainer.max_steps=4",
        "--trainer.limit_val_batches=0",
    ]
    base += ["--trainer.log_every_n_steps=1", "--trainer.logger.class_path=CSVLogger"]
    if "without" in branches:
        base += ["--model.merge_loss=0", "--model.mse_loss=0"]
    curves, weights, headers = [], [], []
    for processes in (1, 2):
        options = [
            *(["--config=trainer/ddp.yaml"] if processes > 1 else []),
            "--trainer.accelerator=cpu",
            "--trainer.precision=32-true",
            f"--trainer.devices={processes}",
            f"--trainer.logger.init_args.save_dir=logs{processes}",
            f"--checkpoint.dirpath=checkpoints{processes}",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
        ended = subprocess.run([*base, *options], env=environment, timeout=240, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        # DDP warns of a search for unused parameters that finds none, and of gradients that are copied into buckets.
        assert not re.search(r"find_unused_parameters|[Gg]rad strides", ended.stderr), ended.stderr
        (log,) = Path(f"logs{processes}").rglob("metrics.csv")
        rows = list(csv.DictReader(log.open()))
        curves.append([float(row["train/loss"]) for row in rows if row.get("train/loss")])
        held = torch.load(f"checkpoints{processes}/last.ckpt", weights_only=True)
        weights.append(held["state_dict"])
        headers.append(held["vlbench"])
    for processes, header in zip((1, 2), headers, strict=True):
        assert header["training"].pop("processes") == processes
        assert header["training"].pop("seconds") > 0
    assert headers[0] == headers[1]
    assert headers[0]["training"]["batch"] == 8
    assert len(curves[0]) == 4
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    if method == "msta":
        return  # where a ReLU lets little through, AdamW makes steps of the rounding of gradients that are almost zero
    rate = 3e-3  # of configs/demo/mote.yaml: one AdamW step moves a weight by it
    for key, value in weights[0].items():
        differs = (value - weights[1][key]).abs() > 1e-3 * rate * 4
        if key.endswith("in_proj_bias"):
            # A key bias has no gradient in exact arithmetic: what AdamW takes is the sign of rounding noise.
            differs = torch.cat(differs.chunk(3)[::2])
        assert differs.float().mean() < 0.01, key


@pytest.mark.slow
@pytest.mark.parametrize(("method", "processes", "said"), [
    ("head_only/nearest_mean.yaml", 1, None),
    ("head_only/nearest_mean.yaml", 2, "learns from all training videos in one process, and the run has 2"),
    ("zero_shot.yaml", 2, "trains nothing; use `vlbench test`"),
])  # fmt: skip
def test_what_has_no_gradients_is_not_wrapped_by_ddp(workplace, method, processes, said):
    """A suite with `trainer/ddp.yaml` may have heads that learn without gradients, which DDP refuses to wrap."""
    configs = [method, "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/ddp.yaml"]
    options = ["--trainer.accelerator=cpu", "--trainer.precision=32-true", f"--trainer.devices={processes}"]
    options += ["--data.num_workers=0", "--data.train.shots=1", "--checkpoint.dirpath=checkpoints"]
    words = [part for name in configs for part in ("--config", name)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    ended = subprocess.run(
        [sys.executable, "-m", "vlbench", "fit", *words, *options],
        env=environment, timeout=240, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr
    if said is None:
        assert ended.returncode == 0, ended.stderr
        assert Path("checkpoints/last.ckpt").is_file()
        # Lightning would have the metrics of a validation gathered, which are those of all processes already.
        assert "sync_dist" not in ended.stderr
    else:
        assert ended.returncode != 0
        assert said in ended.stderr
