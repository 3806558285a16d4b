"""ActionCLIP's released checkpoint format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlbench.backbones.base import DualEncoder
from vlbench.backbones.weight_files import read_released
from vlbench.errors import CheckpointError
from vlbench.methods.action_clip.heads import HeadName
from vlbench.methods.action_clip.module import ActionCLIP
from vlbench.methods.parts.released_files import Imported, load_trained, training_in

_PARTS = ("model_state_dict", "fusion_model_state_dict")
_POSITIONS = "frame_position_embeddings.weight"
_HEADS: Mapping[str, HeadName] = {
    "shift.": "Conv_1D",
    "lstm_visual.": "LSTM",
    "transformer.resblocks.": "Transf",
    "transformer.cls_token": "Transf_cls",
}
"""Beginning of a weight's name that only one head has, and the head."""


def import_released(path: Path, backbone: DualEncoder) -> Imported:
    """ActionCLIP in a file of its released code.

    Args:
        path: Dictionary with `epoch`, `model_state_dict` (all of CLIP under OpenAI's names, of which `net` is left out)
            and `fusion_model_state_dict` (the head).
        backbone: Dual encoder that is given the weights of the file.

    Raises:
        CheckpointError: If the file cannot be read or does not fit; missing, unexpected and misshapen keys are named.
    """
    content = read_released(path)
    absent = [part for part in _PARTS if not isinstance(content.get(part), Mapping)]
    if absent:
        raise CheckpointError(f"{path} is no released ActionCLIP checkpoint: {', '.join(absent)} is missing")
    towers, head = ({name: value.float() for name, value in content[part].items()} for part in _PARTS)
    head = {name.removeprefix("module."): value for name, value in head.items()}
    shift = any(".net." in name for name in towers)
    options = {**_head_of(path, head), **({"shift": True} if shift else {})}
    if options["head"] != "Transf":
        head.pop(_POSITIONS, None)  # other heads have the table and never read it
    method = ActionCLIP(backbone, **options)  # type: ignore[arg-type]
    state = {f"backbone.clip.{name.replace('.net.', '.')}": value for name, value in towers.items()}
    load_trained(path, method, {**state, **{f"temporal.{name}": value for name, value in head.items()}})
    return Imported.of(method, training_in(path, content), options)


def _head_of(path: Path, state: Mapping[str, Tensor]) -> dict[str, str | int]:
    """The options of ActionCLIP that a head has, as far as they are not the default.

    Args:
        path: File that the head comes from, for errors.
        state: Weights of the head by their released names.
    """
    names = {head for name in state for start, head in _HEADS.items() if name.startswith(start)}
    if not names and not state.keys() - {_POSITIONS}:
        return {"head": "meanP"}
    if len(names) != 1:
        raise CheckpointError(f"{path} holds {', '.join(sorted(state))}, which is no head of ActionCLIP")
    (head,) = names
    options: dict[str, str | int] = {"head": head}
    if head in ("Transf", "Transf_cls"):
        prefix = "transformer.resblocks." if head == "Transf" else "transformer.transformer_enc.layers."
        options["layers"] = len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})
    if head == "Transf_cls" and "transformer.pos_embed" in state:
        options["frames"] = state["transformer.pos_embed"].shape[1] - 1
    return options
