"""Vision-language backbones."""

from vlbench.backbones.base import Capabilities, DualEncoder
from vlbench.backbones.blocks import Block
from vlbench.backbones.layouts import Layout
from vlbench.backbones.openai import OpenAICLIP
from vlbench.backbones.openclip import OpenCLIP
from vlbench.backbones.tiny import TinyCLIP
from vlbench.backbones.towers import Tower
from vlbench.backbones.viclip import ViCLIP

__all__ = [
    "Block", "Capabilities", "DualEncoder", "Layout", "OpenAICLIP", "OpenCLIP", "TinyCLIP", "Tower", "ViCLIP",
]  # fmt: skip
