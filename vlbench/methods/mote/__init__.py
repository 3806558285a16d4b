"""MoTE: mixture of temporal experts."""

from vlbench.methods.mote.module import MoTE

__all__ = ["MoTE"]
