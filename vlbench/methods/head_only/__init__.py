"""Heads on the features of a frozen tower, which learn from all training videos at once."""

from vlbench.methods.head_only.nearest import NearestMean, NearestNeighbours
from vlbench.methods.head_only.probes import CLIPAdapter, LogisticProbe, ZeroShotProbe
from vlbench.methods.head_only.tip_adapter import TipAdapter, TipAdapterF

__all__ = [
    "CLIPAdapter",
    "LogisticProbe",
    "NearestMean",
    "NearestNeighbours",
    "TipAdapter",
    "TipAdapterF",
    "ZeroShotProbe",
]
