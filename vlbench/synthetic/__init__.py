"""The benchmark's own dataset: rendered clips of moving shapes, and the tiny CLIP that was pre-trained for them.

Importing this package (and `classes`, `render`, `generate`) costs no torch.
"""
