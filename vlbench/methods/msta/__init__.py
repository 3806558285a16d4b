"""MSTA: multi-modal spatio-temporal adapter."""

from vlbench.methods.msta.module import MSTA

__all__ = ["MSTA"]
