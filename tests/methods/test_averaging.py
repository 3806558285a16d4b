"""Weights that are the mean of those after several epochs: in checkpoints, in validations, after interruptions."""

from types import SimpleNamespace

import lightning
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from vlbench.backbones import TinyCLIP
from vlbench.clips.batch import Clip, ClipBatch, ViewBatch
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.errors import ConfigError
from vlbench.methods.parts.averaging import AveragedTraining
from vlbench.optim import Schedule

NAMES = ("red circle", "blue square", "green triangle")
CLASSES = ClassList(NAMES, (0, 1, 2), NAMES)
SETS = [EvaluationSet(Subset(), CLASSES, {f"v{k}": k for k in range(3)}, "made up")]
KEY = "backbone.clip.visual.proj"


class Projection(AveragedTraining):
    """Trains the last matrix of the image tower."""

    name = "projection"

    def __init__(self, backbone, prompts="video", average_from=2):
        super().__init__(backbone, prompts, Schedule(warmup_epochs=0), average_from=average_from)
        backbone.requires_grad_(False)
        backbone.visual.get_parameter("proj").requires_grad_(True)

    def on_fit_start(self):
        self.classes = self.encode_text(NAMES)

    def training_loss(self, batch):
        video = self.encode_video(self.backbone.normalize(batch.video))
        return {"loss": torch.nn.functional.cross_entropy(self.training_logits(video, self.classes), batch.labels)}

    def parameter_groups(self):
        return [{"params": [self.weights()], "lr": 1e-2, "weight_decay": 0.0}]

    def weights(self):
        return self.backbone.visual.get_parameter("proj")


class AfterEpochs(Callback):
    """The training's own weights after every epoch, and those of every validation."""

    def __init__(self):
        self.own, self.validated = [], []

    def on_train_epoch_end(self, trainer, pl_module):
        self.own.append(pl_module.weights().detach().clone())

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.validated.append(pl_module.weights().detach().clone())


def clip(index, views=()):
    generator = torch.Generator().manual_seed(index)
    pixels = torch.randint(0, 256, (*views, 1, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Clip(pixels, index % 3, f"v{index % 3}")


TRAIN = DataLoader([clip(k) for k in range(4)], batch_size=2, collate_fn=ClipBatch.collate)
VALIDATION = DataLoader([clip(k, (1,)) for k in range(3)], batch_size=3, collate_fn=ViewBatch.collate)


def made(**options):
    torch.manual_seed(0)
    method = Projection(TinyCLIP(), **options)
    method.use(SimpleNamespace(train_classes=CLASSES, sets=lambda part: SETS))
    return method


def trained(folder, method, *, epochs=4, ckpt_path=None, **options):
    seen = AfterEpochs()
    saved = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=epochs,
        num_sanity_val_steps=0, callbacks=[seen, saved], **options,
    )  # fmt: skip
    trainer.fit(method, TRAIN, VALIDATION, ckpt_path=ckpt_path)
    return seen


def stored(folder, epoch):
    return torch.load(folder / f"epoch={epoch}.ckpt", weights_only=True)


def mean(weights):
    return torch.stack(weights).mean(dim=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    method = made()
    return SimpleNamespace(folder=folder, method=method, seen=trained(folder, method))


def test_a_checkpoint_holds_the_mean_from_an_epoch_on(whole):
    own = whole.seen.own
    assert not torch.allclose(own[1], own[3], atol=1e-4)
    assert torch.equal(stored(whole.folder, 0)["state_dict"][KEY], own[0])
    for epoch in (1, 2, 3):
        assert torch.allclose(stored(whole.folder, epoch)["state_dict"][KEY], mean(own[1 : epoch + 1]), atol=1e-6)
        assert stored(whole.folder, epoch)["state_dict"].keys() == {KEY}


def test_a_validation_has_the_weights_that_its_epoch_s_checkpoint_holds(whole):
    for epoch, weights in enumerate(whole.seen.validated):
        assert torch.equal(weights, stored(whole.folder, epoch)["state_dict"][KEY])


def test_a_validation_leaves_the_training_s_own_weights(whole, tmp_path):
    alone = trained(tmp_path, made(), limit_val_batches=0)
    assert all(torch.equal(one, other) for one, other in zip(alone.own, whole.seen.own, strict=True))


def test_the_method_is_left_with_the_mean(whole):
    assert torch.equal(whole.method.weights(), stored(whole.folder, 3)["state_dict"][KEY])


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_training_that_goes_on_ends_with_the_same_mean(whole, tmp_path, epoch):
    method = made()
    seen = trained(tmp_path, method, ckpt_path=whole.folder / f"epoch={epoch}.ckpt")
    assert all(torch.equal(one, other) for one, other in zip(seen.own, whole.seen.own[epoch + 1 :], strict=True))
    assert torch.equal(method.weights(), whole.method.weights())


def test_an_evaluation_takes_the_mean_of_a_checkpoint(whole):
    method = made()
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.test(method, VALIDATION, ckpt_path=whole.folder / "epoch=2.ckpt", verbose=False)
    assert torch.equal(method.weights(), stored(whole.folder, 2)["state_dict"][KEY])


def test_an_epoch_that_was_broken_off_counts_once(tmp_path):
    method = made(average_from=1)
    seen = trained(tmp_path, method, max_steps=3)
    assert torch.allclose(method.weights(), mean(seen.own[:2]), atol=1e-6)


@pytest.mark.parametrize("first", [None, 9])
def test_without_an_epoch_that_counts_the_weights_are_the_last_ones(tmp_path, first):
    method = made(average_from=first)
    seen = trained(tmp_path, method, epochs=2)
    assert torch.equal(method.weights(), seen.own[-1])
    assert torch.equal(stored(tmp_path, 1)["state_dict"][KEY], seen.own[-1])


def test_refuses_an_epoch_below_the_first():
    with pytest.raises(ConfigError, match=r"average_from is 0; allowed: 1 to .*, or null for the last weights"):
        made(average_from=0)
