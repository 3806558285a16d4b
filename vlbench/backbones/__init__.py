"""Vision-language backbones."""

from vlbench.backbones.base import DualEncoder, Layout, Tower
from vlbench.backbones.openai import OpenAICLIP
from vlbench.backbones.openclip import OpenCLIP
from vlbench.backbones.tiny import TinyCLIP
from vlbench.backbones.viclip import ViCLIP

__all__ = ["DualEncoder", "Layout", "OpenAICLIP", "OpenCLIP", "TinyCLIP", "Tower", "ViCLIP"]
