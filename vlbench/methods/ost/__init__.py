"""OST: optimal transport between the frames of a video and descriptors of its class."""

from vlbench.methods.ost.module import OST

__all__ = ["OST"]
