"""Parameter counts of the paper, on the meta device: no memory, no weights."""

import open_clip
import pytest
import torch

from vlbench.methods.mote.head import TemporalHead


@pytest.mark.parametrize(
    ("model", "layers", "millions"), [("ViT-B-16-quickgelu", 4, 98.8), ("ViT-L-14-quickgelu", 6, 346.6)]
)
def test_image_tower_and_merged_head(model, layers, millions):
    config = open_clip.get_model_config(model)
    with torch.device("meta"):
        clip = open_clip.CLIP(**{**config, "quick_gelu": True})
        head = TemporalHead(config["embed_dim"], config["text_cfg"]["width"] // 64, layers, experts=0)
    count = sum(p.numel() for module in (clip.visual, head) for p in module.parameters())
    assert round(count / 1e6, 1) == millions
