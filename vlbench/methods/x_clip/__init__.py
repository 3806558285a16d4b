"""X-CLIP: frames that exchange messages, and class features that depend on the video."""

from vlbench.methods.x_clip.module import XCLIP

__all__ = ["XCLIP"]
