"""ActionCLIP: contrastive training of a whole CLIP with a head over time."""

from vlbench.methods.action_clip.module import ActionCLIP

__all__ = ["ActionCLIP"]
