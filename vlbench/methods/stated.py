"""What records say of the options of a method: settings, deviations from the paper, and what was kept of a test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.evaluation.facts import TrainingFacts
from vlbench.evaluation.kept import Keep, KeptFacts
from vlbench.methods.parts.fusion import ViewFusion
from vlbench.methods.parts.paper import constructor_options, deviations, recipe_deviations
from vlbench.methods.parts.prompts import PROMPTS, prompts_name, prompts_text, templates
from vlbench.settings import Side, of_side


class StatedOptions(ABC):
    """A method that says what its options are, which of them can change a number and which are not the paper's.

    It keeps every argument of its constructor in an attribute of its name.
    """

    backbone: DualEncoder
    opens_vocabulary: bool
    templates: tuple[str, ...]
    view_fusion: ViewFusion

    PAPER: ClassVar[Mapping[str, object]] = {}
    """The paper's value of every argument of the constructor and every field of one that is a dataclass. Where the
    paper has several values they are a frozenset; where a value depends on the backbone or on another argument it is a
    function of the method. The default is the paper's value of an argument that is not named."""

    NO_DEVIATION: ClassVar[Mapping[str, str]] = {
        "backbone": "the record names it and its weights",
        "seed": "it draws, it does not define",
        "grad_checkpointing": "the same numbers in less memory",
        "pretrained_from": "the backbone's identity names the training and its weights",
    }
    """Arguments of the constructor that cannot be a deviation from the paper, and why."""

    PAPER_RECIPE: ClassVar[Mapping[str, object]] = {}
    """The paper's value of options of the data and the trainer, by the names that records have for them, such as
    `data.frames`, `data.batch` or `trainer.max_epochs`; `data.clip.views` is `4x3`. Where the paper has several values
    they are a frozenset, an empty one where it states none; where a value depends on the training or on the tested
    dataset it is a function of the method, a `TrainingFacts` and the name of the tested dataset, `None` in a training.
    A value that the paper does not state is not named."""

    SIDES: ClassVar[Mapping[str, Side]] = {
        "prompts": "both",
        "view_fusion": "test",
        "lr": "training",
        "weight_decay": "training",
        "warmup_epochs": "training",
        "final_ratio": "training",
        "refresh_every": "training",
        "cosine_from": "training",
        "lag": "training",
        "initial_ratio": "training",
        "floor": "training",
    }
    """What each argument of the constructor can change, and each field of one that is a dataclass, for the identity of
    records; an option that is not named can change weights and scores."""

    SAME_NUMBERS: ClassVar[Mapping[str, str]] = {
        "grad_checkpointing": "the same numbers in less memory",
    }
    """Arguments of the constructor that cannot change a number, and why."""

    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "backbone": "identity.backbone, and its own settings",
        "seed": "identity.seed",
        "pretrained_from": "identity.backbone, and the backbone's own settings",
    }
    """Arguments of the constructor that an identity states in a field of its own, and where."""

    @property
    @abstractmethod
    def logit_factor(self) -> Tensor | float:
        """Factor that makes scores logits."""

    def settings(self, side: Side) -> dict[str, object]:
        """Every option of method and backbone that can change a number, by its name; see `vlbench.settings`.

        Args:
            side: What the option can change.
        """
        left_out = {*self.SAME_NUMBERS, *self.ELSEWHERE}
        options = {name: value for name, (value, _) in constructor_options(self).items() if name not in left_out}
        if "prompts" in options:
            options["prompts"] = prompts_name(self.templates)
        of_backbone = {f"backbone.{name}": value for name, value in self.backbone.settings().items()}
        return of_side(options | of_backbone, self.SIDES, side)

    def deviations(
        self,
        side: Side | None = None,
        run: Mapping[str, object] | None = None,
        training: TrainingFacts | None = None,
        tested: str | None = None,
    ) -> dict[str, object]:
        """Options whose value is not the paper's, by their names, for the record; see `PAPER` and `PAPER_RECIPE`.

        An image size that the backbone's weights were not trained for is one of them.

        Args:
            side: What the options can change; `None` takes all of the method's.
            run: Settings of the data and the trainer, by their names.
            training: Facts about the training; `None` if there was none.
            tested: Name of the tested dataset; `None` in a training.
        """
        of_method = deviations(self, self.PAPER, self.NO_DEVIATION)
        if side is not None:
            of_method = {name: of_method[name] for name in of_side(of_method, self.SIDES, side)}
        of_backbone = {f"backbone.{name}": value for name, value in self.backbone.deviations().items()}
        return {**of_method, **of_backbone, **recipe_deviations(self, self.PAPER_RECIPE, run or {}, training, tested)}

    def other_templates(self, keep: Keep) -> list[tuple[str, ...]]:
        """Sets of templates beside the method's own whose scores an evaluation keeps, each once.

        Args:
            keep: What the evaluation is to keep.
        """
        if not keep.templates or not self._takes_prompts:
            return []
        named = [*PROMPTS, *self.templates] if keep.prompts is None else keep.prompts
        return list(dict.fromkeys(given for given in map(templates, named) if given != self.templates))

    def kept_facts(self, keep: Keep, others: Sequence[Sequence[str]]) -> KeptFacts:
        """What the scores are of that an evaluation keeps.

        Args:
            keep: What the evaluation is to keep.
            others: Sets of templates beside the method's own, see `other_templates`.
        """
        return KeptFacts(
            prompts=tuple(map(prompts_text, (self.templates, *others))),
            prompts_option=self._takes_prompts,
            fusion=self.view_fusion,
            fusion_option="view_fusion" in constructor_options(self),
            scale=float(torch.as_tensor(self.logit_factor).detach()),
            fused=not keep.views,
        )

    @property
    def _takes_prompts(self) -> bool:
        return self.opens_vocabulary and "prompts" in constructor_options(self)
