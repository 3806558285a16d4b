"""Methods: each a LightningModule on one base."""

from vlbench.methods.adaptformer import AdaptFormer
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.efficient_prompt import EfficientPrompt
from vlbench.methods.froster import FROSTER
from vlbench.methods.lora import LoRA
from vlbench.methods.mma import MMA
from vlbench.methods.mote import MoTE
from vlbench.methods.msta import MSTA
from vlbench.methods.open_vclip import OpenVCLIP
from vlbench.methods.vifi_clip import ViFiCLIP
from vlbench.methods.vl_prompting import VLPrompting
from vlbench.methods.zero_shot import ZeroShot

__all__ = [
    "FROSTER",
    "MMA",
    "MSTA",
    "AdaptFormer",
    "EfficientPrompt",
    "LoRA",
    "MoTE",
    "OpenVCLIP",
    "VLPrompting",
    "ViFiCLIP",
    "VideoTextMethod",
    "ZeroShot",
]
