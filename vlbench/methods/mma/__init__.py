"""MMA: the multi-modal adapter, which MSTA extends."""

from vlbench.methods.mma.module import MMA

__all__ = ["MMA"]
