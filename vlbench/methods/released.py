"""What weights of methods are made of and into, by the names of the methods: released files in, merged weights out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vlbench.backbones.base import DualEncoder
from vlbench.methods.action_clip.released import import_released as action_clip
from vlbench.methods.aim.released import aim
from vlbench.methods.lora.released import import_released as lora
from vlbench.methods.mma.released import import_released as mma
from vlbench.methods.mote.released import import_released as mote
from vlbench.methods.mote.released import merged_state
from vlbench.methods.open_vclip_released import froster, open_vclip
from vlbench.methods.ost.released import import_released as ost
from vlbench.methods.parts.released_files import Imported, Merger
from vlbench.methods.st_adapter.released import st_adapter
from vlbench.methods.tc_clip.released import import_released as tc_clip
from vlbench.methods.vifi_released import vifi_clip, vl_prompting
from vlbench.methods.x_clip.released import import_released as x_clip

IMPORTERS: Mapping[str, Callable[[Path, DualEncoder], Imported]] = {
    "action_clip": action_clip,
    "aim": aim,
    "froster": froster,
    "lora": lora,
    "mma": mma,
    "mote": mote,
    "open_vclip": open_vclip,
    "ost": ost,
    "st_adapter": st_adapter,
    "vifi_clip": vifi_clip,
    "vl_prompting": vl_prompting,
    "x_clip": x_clip,
    "tc_clip": tc_clip,
}
"""Function that reads a method's released file for a backbone with the original weights, by the method's name."""

MERGERS: Mapping[str, Merger] = {"mote": Merger(merged_state, {"experts": 0})}
"""How the weights of a checkpoint become fewer that compute the same, by the method's name."""
