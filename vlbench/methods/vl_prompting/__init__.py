"""Vision-language prompting: learned tokens in both towers of a frozen CLIP."""

from vlbench.methods.vl_prompting.module import VLPrompting

__all__ = ["VLPrompting"]
