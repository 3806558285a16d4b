"""AdaptFormer: bottlenecks beside the MLPs of a frozen image tower."""

from vlbench.methods.adaptformer.module import AdaptFormer

__all__ = ["AdaptFormer"]
