"""Methods: each a LightningModule on one base."""

from vlbench.methods.action_clip import ActionCLIP
from vlbench.methods.adaptformer import AdaptFormer
from vlbench.methods.aim import AIM
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.efficient_prompt import EfficientPrompt
from vlbench.methods.froster import FROSTER
from vlbench.methods.head_only import (
    CLIPAdapter,
    LogisticProbe,
    NearestMean,
    NearestNeighbours,
    TipAdapter,
    TipAdapterF,
    ZeroShotProbe,
)
from vlbench.methods.lora import LoRA
from vlbench.methods.mma import MMA
from vlbench.methods.mote import MoTE
from vlbench.methods.msta import MSTA
from vlbench.methods.open_vclip import OpenVCLIP
from vlbench.methods.ost import OST
from vlbench.methods.st_adapter import STAdapter
from vlbench.methods.tc_clip import TCCLIP
from vlbench.methods.vifi_clip import ViFiCLIP
from vlbench.methods.vision_only import VisionOnly
from vlbench.methods.vl_prompting import VLPrompting
from vlbench.methods.x_clip import XCLIP
from vlbench.methods.zero_shot import ZeroShot

__all__ = [
    "AIM",
    "FROSTER",
    "MMA",
    "MSTA",
    "OST",
    "TCCLIP",
    "XCLIP",
    "ActionCLIP",
    "AdaptFormer",
    "CLIPAdapter",
    "EfficientPrompt",
    "LoRA",
    "LogisticProbe",
    "MoTE",
    "NearestMean",
    "NearestNeighbours",
    "OpenVCLIP",
    "STAdapter",
    "TipAdapter",
    "TipAdapterF",
    "VLPrompting",
    "ViFiCLIP",
    "VideoTextMethod",
    "VisionOnly",
    "ZeroShot",
    "ZeroShotProbe",
]
