"""Methods: each a LightningModule on one base."""

from vlbench.methods.base import VideoTextMethod
from vlbench.methods.mote import MoTE
from vlbench.methods.msta import MSTA
from vlbench.methods.zero_shot import ZeroShot

__all__ = ["MSTA", "MoTE", "VideoTextMethod", "ZeroShot"]
