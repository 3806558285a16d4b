"""TC-CLIP: context tokens of the whole clip in every frame's attention, and prompts that depend on the video."""

from vlbench.methods.tc_clip.module import TCCLIP

__all__ = ["TCCLIP"]
