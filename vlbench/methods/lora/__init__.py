"""LoRA: low-rank terms on the attention of both towers of a frozen CLIP."""

from vlbench.methods.lora.module import LoRA

__all__ = ["LoRA"]
