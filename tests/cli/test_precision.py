"""bfloat16 and torch.compile give the predictions of eager float32."""

import shutil
import sys
from types import SimpleNamespace

import lightning
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from tests.cli.test_trainer import OVERLAYS, command
from tests.processes import HEAP_CHECKS, run_apart
from tests.tolerance import assert_same_but_rounding
from vlbench.backbones import TinyCLIP
from vlbench.cli.main import main
from vlbench.clips.batch import Clip, ClipBatch, ViewBatch
from vlbench.datasets.descriptions import Descriptions
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.evaluation.evaluator import Evaluator
from vlbench.methods import MSTA, MoTE, ZeroShot
from vlbench.methods.parts.multimodal_adapter import BlockAdapter
from vlbench.optim import Schedule
from vlbench.results.record import Record

compiles = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
# Compiled by the process itself: others that help would have to import torch first.
BY_ITSELF = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
COMPILATION = {**HEAP_CHECKS, **BY_ITSELF}
METHODS = {"zero_shot": ZeroShot, "msta": MSTA, "mote": MoTE}


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


def scores(folder):
    (path,) = (folder / "predictions").iterdir()
    return load_file(path)


@pytest.mark.parametrize("method", METHODS)
def test_bf16_trains_and_agrees_with_float32(workplace, method):
    """Cosines within 0.005, the top-1 of 95 % of the videos; weights stay float32."""
    configs = ["zero_shot.yaml"] if method == "zero_shot" else [f"{method}_fewshot.yaml", f"demo/{method}.yaml"]
    test = ["--data.num_workers=0"]
    if method != "zero_shot":
        options = ["--data.num_workers=0", "--data.train.shots=2", "--trainer.max_steps=6", "--trainer.logger=false"]
        options += ["--trainer.limit_val_batches=0", "--checkpoint.dirpath=half"]
        assert main(command("fit", *configs, *OVERLAYS, "precision/bf16.yaml", options=options)) == 0
        held = torch.load("half/last.ckpt", weights_only=True)["state_dict"]
        assert {value.dtype for value in held.values()} == {torch.float32}
        test.append("--ckpt_path=half/last.ckpt")
    assert main(command("test", *configs, *OVERLAYS, options=[*test, "--record.folder=full"])) == 0
    assert (
        main(command("test", *configs, *OVERLAYS, "precision/bf16.yaml", options=[*test, "--record.folder=low"])) == 0
    )
    full, low = scores(workplace / "full"), scores(workplace / "low")
    assert not torch.equal(full["cosines"], low["cosines"])
    assert torch.allclose(full["cosines"], low["cosines"], atol=5e-3)
    assert (full["scores"].argmax(1) == low["scores"].argmax(1)).float().mean() >= 0.95
    top1 = [Record.read(next((workplace / name / "records").iterdir())).metrics["top1"] for name in ("full", "low")]
    assert top1[0] == pytest.approx(top1[1], abs=2)


@pytest.mark.quick
def test_gradients_are_clipped_in_mixed_precision():
    """Lightning's mixed precision refuses to clip those of an optimizer that makes one pass over its parameters."""
    names, moved = tuple("abc"), []
    clips = [Clip(torch.full((2, 3, 32, 32), 40 * k, dtype=torch.uint8), k, names[k]) for k in range(3)]
    for limit in (None, 1e-9):
        method = MSTA(TinyCLIP(), Schedule(warmup_epochs=0), blocks=1, bottleneck=32, consistency=0, weight_decay=0)
        method.use(SimpleNamespace(train_classes=ClassList(names, (0, 1, 2), names)))
        before = [parameter.detach().clone() for parameter in method.adapters.parameters()]
        trainer = lightning.Trainer(
            accelerator="cpu", precision="bf16-mixed", gradient_clip_val=limit, max_steps=1, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(method, DataLoader(clips, batch_size=3, collate_fn=ClipBatch.collate))
        pairs = zip(method.adapters.parameters(), before, strict=True)
        moved.append(sum((after - value).abs().sum().item() for after, value in pairs))
    assert 0 < moved[1] < 0.1 * moved[0]


@pytest.mark.slow
@compiles
@pytest.mark.timeout(960)
@pytest.mark.parametrize("method", [pytest.param("zero_shot", marks=pytest.mark.soak), "msta", "mote"])
def test_compiled_blocks_compute_the_same(method):
    run_apart(check_compiled_blocks, method, timeout=900, environment=COMPILATION)


def check_compiled_blocks(method):
    """Features within 1e-4, MSTA's gradients too; the keys stay as they are, the branches go on working."""
    torch.manual_seed(0)
    eager = METHODS[method](TinyCLIP())
    torch.manual_seed(0)
    compiled = METHODS[method](TinyCLIP())
    compiled.compile_blocks()
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    compiled.load_state_dict(eager.state_dict())
    clips = torch.randn(3, 2, 3, 32, 32)
    found = []
    for model in (eager, compiled):
        if method == "msta":
            loss = model.encode_frames(clips).square().mean()
            loss.backward()
        with torch.no_grad():
            found.append(model.encode_frames(clips))
    assert torch.allclose(*found, atol=1e-4)
    gradients = [[p.grad for p in model.parameters() if p.grad is not None] for model in (eager, compiled)]
    assert bool(gradients[0]) == (method == "msta")
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.allclose(a, b, atol=1e-4, rtol=1e-3) for a, b in zip(*gradients, strict=True))


@pytest.mark.slow
@compiles
@pytest.mark.timeout(960)
# MSTA has plain, adapted and causal blocks; MoTE plain and causal ones, and a head with and without merged experts.
@pytest.mark.parametrize(("method", "kinds"), [("msta", 3), ("mote", 4)])
def test_a_run_compiles_a_kind_of_block_twice_at_most(method, kinds):
    # Nothing that was compiled runs, so that there is no memory to check.
    run_apart(check_number_of_compilations, method, kinds, timeout=900, environment=BY_ITSELF)


def check_number_of_compilations(method, kinds):
    """Training and evaluation with batches of several sizes: no graph break, and in each of the two at most one
    compilation of a kind of block for the first size and one for all others."""
    from torch._dynamo.backends.debugging import aot_eager
    from torch._dynamo.utils import counters
    from torch._inductor import compile_fx

    # What is counted is traced before: kernels need not be written for it.
    compile_fx.compile_fx = lambda graph, inputs, **_: aot_eager(graph, inputs)
    model = METHODS[method](TinyCLIP(), **({"blocks": 2, "bottleneck": 64} if method == "msta" else {"layers": 2}))
    names = tuple("abcde")
    sentences = tuple(("it moves",) for _ in names)
    model.train_classes = ClassList(names, tuple(range(5)), names, Descriptions(sentences, sentences))
    model.on_fit_start()
    model.compile_blocks()
    model.train()
    for size in (4, 4, 3, 4, 2):
        video, labels = torch.zeros(size, 2, 3, 32, 32, dtype=torch.uint8), torch.zeros(size, dtype=torch.int64)
        model.training_loss(ClipBatch(video, labels, list(names[:size]), {}))["loss"].backward()
    counted = [counters["stats"]["unique_graphs"]]
    model.eval()
    with torch.no_grad(), model.evaluation_weights():
        sets = [EvaluationSet(Subset(), model.train_classes, dict.fromkeys(names, 0), "list")]
        evaluator = Evaluator(model, sets)
        for size in (4, 4, 3, 4, 2):
            clips = [Clip(torch.zeros(2, 2, 3, 32, 32, dtype=torch.uint8), 0, name) for name in names[:size]]
            evaluator.update(ViewBatch.collate(clips, at_once=size))
    counted.append(counters["stats"]["unique_graphs"] - counted[0])
    assert not counters["graph_break"]
    assert all(2 <= number <= 2 * kinds for number in counted), counted


@pytest.mark.slow
@compiles
@pytest.mark.timeout(960)
@pytest.mark.parametrize(
    ("width", "bottleneck", "grids"),
    [
        pytest.param(128, 64, [(3, 2, 17), (2, 5, 7)], marks=pytest.mark.soak),
        (15, 5, [(2, 3, 7), (3, 5, 4), (1, 1, 7), (2, 2, 1)]),
    ],
)
def test_compiled_adapters_compute_the_same_at_odd_sizes(width, bottleneck, grids):
    """The first of the grids (B, T, N) is compiled for its sizes, the next ones for sizes that vary, 1 apart."""
    run_apart(check_compiled_adapter, width, bottleneck, grids, timeout=900, environment=COMPILATION)


def check_compiled_adapter(width, bottleneck, grids):
    torch.manual_seed(0)
    adapter = BlockAdapter(width, 8, bottleneck)
    weights = [*adapter.video_down.parameters(), *adapter.temporal_up.parameters(), *adapter.video_up.parameters()]
    compiled = torch.compile(adapter.video)
    for grid in grids:
        x = torch.randn(*grid, width, requires_grad=True)
        towards = torch.randn(*grid, width)
        results = []
        for video in (adapter.video, compiled):
            out = video(x)
            results.append([out, *torch.autograd.grad((out * towards).sum(), [x, *weights])])
        for eager, other in zip(*results, strict=True):
            assert_same_but_rounding(other, eager)


def test_compile_reaches_the_blocks_of_the_command_line(workplace, monkeypatch):
    seen = []
    monkeypatch.setattr(ZeroShot, "compile_blocks", lambda self: seen.append(self.name))
    options = ["--data.num_workers=0", "--trainer.limit_predict_batches=1"]
    assert main(command("predict", "zero_shot.yaml", *OVERLAYS, "precision/compile.yaml", options=options)) == 0
    assert seen == ["zero_shot"]


@pytest.mark.parametrize(("precision", "tf32"), [("highest", False), ("high", True)])
def test_float32_is_float32_in_convolutions_too(workplace, monkeypatch, precision, tf32):
    """torch lets convolutions take TF32 on its own, and the patches of a ViT are a convolution."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not tf32)
    before = torch.get_float32_matmul_precision()
    options = [f"--matmul_precision={precision}", "--data.num_workers=0", "--trainer.limit_predict_batches=1"]
    try:
        assert main(command("predict", "zero_shot.yaml", *OVERLAYS, options=options)) == 0
        assert torch.backends.cudnn.allow_tf32 == tf32
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
