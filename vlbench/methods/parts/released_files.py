"""Weights in files that the papers' authors released, as the content of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vlbench.backbones.weight_files import check_keys, read_released
from vlbench.errors import CheckpointError
from vlbench.methods.base import VideoTextMethod

CONFIGURATIONS = (
    "yacs.config.CfgNode",
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode")),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "typing.Any"),
)
"""Classes of the configurations that released checkpoints hold."""


@dataclass(frozen=True)
class Imported:
    """Released weights as the content of a checkpoint.

    Attributes:
        state: Weights that the method trains, by their keys.
        header: What the checkpoint says of its method, its frozen weights and its training, as plain values.
        options: Options of the method that a test with these weights has to have, by their names.
        start: Weights of the backbone that the method started from, where they are not the original ones.
        classes: Number of classes of the file's linear head, which names none of them; `None` where there is no head.
    """

    state: dict[str, Tensor]
    header: dict[str, Any]
    options: Mapping[str, object]
    start: Imported | None = None
    classes: int | None = None

    @classmethod
    def of(
        cls,
        method: VideoTextMethod,
        training: Mapping[str, Any],
        options: Mapping[str, object] | None = None,
        start: Imported | None = None,
        *,
        classes: int | None = None,
    ) -> Imported:
        """The weights of a method as they are now.

        Args:
            method: Method with the released weights.
            training: What is known of the training, as plain values; see `training_in`.
            options: Options of the method that a test has to have.
            start: Weights of the backbone that the method started from.
            classes: Number of classes of the file's linear head.
        """
        keys = method.trained_keys()
        state = {key: value for key, value in method.state_dict().items() if key in keys}
        header = {"method": method.name, "backbone": method.backbone.identity.as_dict(), "training": dict(training)}
        return cls(state, header, options or {}, start, classes)


class Merger(NamedTuple):
    """How the weights of a checkpoint become fewer ones that compute the same.

    Attributes:
        merge: Function from the state dict of a checkpoint to the merged one.
        options: Options that the method has with the merged weights, by their names.
    """

    merge: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    options: Mapping[str, object]


def training_in(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint can say of the training of a released file: its name and its number of epochs.

    Args:
        path: Name of the file.
        content: Content of the file, with the number of the last `epoch` where it is known.
    """
    return {
        "dataset": f"released:{path.name}",
        "subset": {"classes": "all", "shots": None, "split": 1, "seed": 0},
        "epochs": int(content.get("epoch", -1)) + 1,
        "seed": 0,
    }


def vifi_line_file(path: Path, method: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights in a file of the code that ViFi-CLIP, X-CLIP, OST and TC-CLIP have in common.

    Args:
        path: Dictionary with `epoch`, `model`, whose keys may begin with `module.`, and a pickled configuration.
        method: Name of the method that the file should be of, for errors.

    Returns:
        Weights in float32 by their names without `module.`, and what is known of the training.

    Raises:
        CheckpointError: If the file cannot be read or has no `model`.
    """
    # The configuration in the file is read as a dictionary; its own class is neither needed nor executed.
    content = read_released(path, as_dictionaries=CONFIGURATIONS)
    if not isinstance(content.get("model"), Mapping):
        raise CheckpointError(f"{path} is no released checkpoint of {method}'s code: model is missing")
    weights = {name.removeprefix("module."): value.float() for name, value in content["model"].items()}
    return weights, training_in(path, content)


def load_trained(path: Path, method: VideoTextMethod, state: Mapping[str, Tensor]) -> None:
    """Gives a method all that it trains.

    Args:
        path: File that the weights come from, for errors.
        method: Method whose trained weights are replaced.
        state: Weights by the keys of the method's state dict.

    Raises:
        CheckpointError: If weights are missing, unexpected or misshapen; names their keys.
    """
    keys = method.trained_keys()
    check_keys({key: value for key, value in method.state_dict().items() if key in keys}, state, str(path))
    method.load_state_dict({**method.state_dict(), **state})
