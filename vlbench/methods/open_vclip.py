"""Open-VCLIP: a CLIP whose frames attend to their neighbours, trained to stay good between its old and new weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from vlbench.backbones.base import DualEncoder
from vlbench.clips.batch import ClipBatch
from vlbench.methods.parts.blending import OriginalWeights
from vlbench.methods.parts.draws import drawn_groups
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.neighbour_frames import MissingFrames
from vlbench.methods.parts.neighbour_training import RELEASED_SCHEDULE, NeighbourTraining
from vlbench.optim import Schedule
from vlbench.ranges import BATCHES, SHARES, WEIGHTS
from vlbench.settings import Side


class OpenVCLIP(NeighbourTraining):
    """Open-VCLIP (ICML 2023, arXiv 2302.00624): interpolated weight optimisation, without new parameters.

    A step descends on `CE(θ) + 0.5 CE(λ θ_0 + (1 - λ) θ)` with a drawn λ, θ_0 being CLIP's own weights. Checkpoints
    hold the mean of the weights after each epoch, and an evaluation takes a share of θ_0. The defaults are the released
    code's for ViT-B/16.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> OpenVCLIP(TinyCLIP(), average_from=None, original_share=0.0).deviations()
        {'average_from': None, 'original_share': 0.0}

    Args:
        backbone: Dual encoder whose image tower is fine-tuned; its text tower is frozen.
        schedule: Schedule of the learning rate.
        neighbours: Frames before and after its own that a token attends to; 0 leaves the attention as it is.
        missing_neighbours: What stands for the neighbours that a clip lacks at its ends: `zeros`, keys and values of
            zero in the softmax, as released, or nothing, `masked`.
        interpolated_loss: Weight of the cross-entropy at the interpolated weights; 0 leaves that pass out.
        interpolated_share: Largest part λ of the original weights in the interpolated ones, in [0, 1].
        interpolated_clips: Number of clips that share a λ; it divides the clips a process takes at once.
        chain_rule: Whether the gradient at the interpolated weights is multiplied by `1 - λ`, as the objective has it;
            the released code takes it as it is.
        average_from: First epoch whose weights count in the mean that checkpoints hold, from 1; null takes the last
            weights alone.
        original_share: Part of CLIP's own weights in the weights of an evaluation, in [0, 1]; 0.5, for L/14 0.6.
        lr: Peak learning rate of the image tower and the logit scale.
        weight_decay: Weight decay of AdamW, of all but vectors.
        prompts: Templates of the class names.
        view_fusion: What is averaged over the views of a video: `probabilities`, `logits` or `cosines`.
        grad_checkpointing: Recompute the image tower in the backward pass; saves memory, costs time.
        seed: Seed of the draws of λ.
    """

    name = "open_vclip"
    REQUIRES: ClassVar[Mapping[str, str]] = {
        "blocks": "Open-VCLIP's frames attend to their neighbours in blocks",
        "frames_encoded_one_by_one": "Open-VCLIP has single frames attend to their neighbours",
        "plain_attention": "Open-VCLIP has frames attend to their neighbours",
    }
    PAPER: ClassVar[Mapping[str, object]] = {
        **NeighbourTraining.PAPER,
        "interpolated_loss": 0.5,
        "interpolated_share": 0.6,
        "interpolated_clips": 8,
        "chain_rule": False,
        "original_share": lambda method: 0.6 if method.backbone.embed_dim >= 768 else 0.5,
    }
    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {
        **NeighbourTraining.PAPER_RECIPE,
        "data.batch": 64,
        "trainer.max_epochs": 22,
    }
    SIDES: ClassVar[Mapping[str, Side]] = {
        **NeighbourTraining.SIDES,
        "interpolated_loss": "training",
        "interpolated_share": "training",
        "interpolated_clips": "training",
        "chain_rule": "training",
        "original_share": "test",
    }

    def __init__(
        self,
        backbone: DualEncoder,
        schedule: Schedule = RELEASED_SCHEDULE,
        neighbours: int = 1,
        missing_neighbours: MissingFrames = "zeros",
        interpolated_loss: float = 0.5,
        interpolated_share: float = 0.6,
        interpolated_clips: int = 8,
        chain_rule: bool = False,
        average_from: int | None = 2,
        original_share: float = 0.5,
        lr: float = 3.33e-6,
        weight_decay: float = 0.01,
        prompts: str | list[str] = "mote",
        view_fusion: ViewFusion = "logits",
        grad_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            backbone, prompts, schedule, neighbours=neighbours, missing_neighbours=missing_neighbours,
            average_from=average_from, lr=lr, weight_decay=weight_decay, view_fusion=view_fusion,
            grad_checkpointing=grad_checkpointing, seed=seed,
        )  # fmt: skip
        WEIGHTS.check("interpolated_loss", interpolated_loss)
        SHARES.check("interpolated_share", interpolated_share)
        BATCHES.check("interpolated_clips", interpolated_clips)
        self.interpolated_loss = interpolated_loss
        self.interpolated_share = interpolated_share
        self.interpolated_clips = interpolated_clips
        self.chain_rule = chain_rule
        self.original_share = original_share
        backbone.requires_grad_(False)
        backbone.visual.requires_grad_(True)
        backbone.logit_scale.requires_grad_(True)
        self._original = OriginalWeights(backbone, original_share, always=interpolated_loss > 0)
        self._classes: Tensor | None = None

    @property
    @override
    def published_as(self) -> tuple[str, ...]:
        return ("Open-VCLIP",)

    # Training ----------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """The training classes' features, once, and the original weights where the training is."""
        assert self.train_classes is not None
        self._classes = self.encode_text(self.train_classes.names)
        self._original.to(self.backbone.logit_scale.device)

    def cross_entropy(self, clips: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of normalised clips `(B, T, 3, H, W)` with their labels `(B,)`."""
        assert self._classes is not None, "call on_fit_start first"
        return F.cross_entropy(self.training_logits(self.encode_video(clips), self._classes), labels)

    def interpolated_gradient(self, clips: Tensor, labels: Tensor, share: float) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Cross-entropy at `λ θ_0 + (1 - λ) θ`, and `interpolated_loss` times its gradient there, of each of θ.

        Args:
            clips: Normalised clips `(B, T, 3, H, W)`.
            labels: Labels of the clips, int64 `(B,)`.
            share: Part λ of the original weights.
        """
        with self._original.blended(self.backbone, share, trains=True):
            loss = self.cross_entropy(clips, labels)
            factor = self.interpolated_loss * (1 - share if self.chain_rule else 1)
            gradient = torch.autograd.grad(factor * loss, self._tuned())
        return loss.detach(), gradient

    def _tuned(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]

    def _interpolated(self, clips: Tensor, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        """The cross-entropy of a batch at interpolated weights, and a zero that carries the weighted gradient there.

        These passes are over when that at the current weights begins, so that no activations of them are kept.
        """
        tuned = self._tuned()
        total = clips.new_zeros(())
        gradients = [torch.zeros_like(parameter) for parameter in tuned]
        for group, generator in drawn_groups(
            batch, self.interpolated_clips, "interpolated_clips", seed=self.seed, step=self.global_step
        ):
            part = len(batch.ids[group]) / len(batch.ids)
            share = generator.uniform(0, self.interpolated_share)
            loss, gradient = self.interpolated_gradient(clips[group], batch.labels[group], share)
            total = total + part * loss
            for whole, of_group in zip(gradients, gradient, strict=True):
                whole.add_(of_group, alpha=part)
        pairs = zip(gradients, tuned, strict=True)
        carrier = torch.stack([(gradient * parameter).sum() for gradient, parameter in pairs]).sum()
        return total, carrier - carrier.detach()

    @override
    def training_loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        assert batch.video is not None
        clips = self.backbone.normalize(batch.video)
        if not self.interpolated_loss:
            return {"loss": self.cross_entropy(clips, batch.labels)}
        interpolated, gradient = self._interpolated(clips, batch)
        ce = self.cross_entropy(clips, batch.labels)
        loss = ce + self.interpolated_loss * interpolated + gradient
        return {"loss": loss, "ce": ce, "ce_interpolated": interpolated}

    # Evaluation --------------------------------------------------------------------------------------------------

    @override
    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """The mean of the weights, with `original_share` of the original ones."""
        blend = self._original.blended(self.backbone, self.original_share)  # before the mean has the parameters frozen
        with super().evaluation_weights(), blend:
            yield
