"""The part of the package `transformers` that the documentation uses: a CLIP and its configuration."""

from types import SimpleNamespace

import torch
from torch import nn


class CLIPConfig:
    def __init__(self, projection_dim, vision_config, text_config):
        self.projection_dim = projection_dim
        self.vision_config = SimpleNamespace(**vision_config)
        self.text_config = SimpleNamespace(**{"max_position_embeddings": 77, "vocab_size": 49408, **text_config})


class Tower(nn.Module):
    """A layer instead of a tower."""

    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, *, pixel_values=None, input_ids=None):
        x = self.embedding(pixel_values if input_ids is None else input_ids)
        pooled = x.flatten(2).mean(dim=2) if input_ids is None else x.mean(dim=1)
        return SimpleNamespace(pooler_output=torch.tanh(pooled))


class CLIPModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        vision, text = config.vision_config, config.text_config
        self.config = config
        self.vision_model = Tower(nn.Conv2d(3, vision.hidden_size, vision.patch_size, vision.patch_size))
        self.text_model = Tower(nn.Embedding(text.vocab_size, text.hidden_size))
        self.visual_projection = nn.Linear(vision.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(text.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))
