"""Vision-language backbones."""

from vlbench.backbones.base import Capabilities, DualEncoder
from vlbench.backbones.blocks import Block
from vlbench.backbones.internvideo2 import InternVideo2
from vlbench.backbones.layouts import Layout
from vlbench.backbones.openai import OpenAICLIP
from vlbench.backbones.openclip import OpenCLIP
from vlbench.backbones.tiny import TinyCLIP
from vlbench.backbones.towers import Tower
from vlbench.backbones.viclip import ViCLIP
from vlbench.backbones.video_network import VideoNetwork

__all__ = [
    "Block",
    "Capabilities",
    "DualEncoder",
    "InternVideo2",
    "Layout",
    "OpenAICLIP",
    "OpenCLIP",
    "TinyCLIP",
    "Tower",
    "ViCLIP",
    "VideoNetwork",
]  # fmt: skip
