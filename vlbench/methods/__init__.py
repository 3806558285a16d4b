"""Methods: each a LightningModule on one base."""

from vlbench.methods.base import VideoTextMethod
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
from vlbench.methods.mote import MoTE
from vlbench.methods.msta import MSTA
from vlbench.methods.open_vclip import OpenVCLIP
from vlbench.methods.tc_clip import TCCLIP
from vlbench.methods.vifi_clip import ViFiCLIP
from vlbench.methods.vl_prompting import VLPrompting
from vlbench.methods.x_clip import XCLIP
from vlbench.methods.zero_shot import ZeroShot

__all__ = [
    "FROSTER",
    "MSTA",
    "TCCLIP",
    "XCLIP",
    "CLIPAdapter",
    "LogisticProbe",
    "MoTE",
    "NearestMean",
    "NearestNeighbours",
    "OpenVCLIP",
    "TipAdapter",
    "TipAdapterF",
    "VLPrompting",
    "ViFiCLIP",
    "VideoTextMethod",
    "ZeroShot",
    "ZeroShotProbe",
]
