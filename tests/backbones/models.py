"""Models of open_clip made small, and stand-ins for what its hub has."""

import open_clip
import torch
from torch import nn

SMALL = {"width": 64, "heads": 1, "layers": 1}


def reduced(name):
    """Configuration of an architecture with its kinds of parts, and few of them; timm's networks stay as they are."""
    config = open_clip.get_model_config(name)
    vision = config["vision_cfg"]
    if isinstance(vision.get("layers"), list):
        vision.update(layers=[1, 1, 1, 1], image_size=64)
    elif "timm_model_name" not in vision:
        vision.update(layers=2, width=128, head_width=64)
    config["text_cfg"].update(SMALL)
    if "hf_tokenizer_name" in config["text_cfg"]:
        config["text_cfg"]["vocab_size"] = 100
    if "multimodal_cfg" in config:
        config["multimodal_cfg"].update(SMALL)
    return config


class HubTokenizer:
    """A tokenizer of words: ids 3 and on, 2 ends a text, 1 is the padding."""

    made = ()

    def __init__(self, source, context_length, **options):
        type(self).made += ((source, context_length, options),)

    def __call__(self, texts, context_length):
        ids = torch.ones(len(texts), context_length, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            words = [3 + sum(map(ord, word)) % 90 for word in text.split()][: context_length - 1]
            row[: len(words) + 1] = torch.tensor([*words, 2])
        return ids


class HubText(nn.Module):
    """A text model of the hub: the mean of its tokens' vectors."""

    made = ()

    def __init__(self, source, output_dim, *, pretrained, **options):
        super().__init__()
        type(self).made += ((source, pretrained),)
        self.output_dim, self.vocab_size, self.context_length = output_dim, 100, 77
        self.config = type("Config", (), {"hidden_size": 128})
        self.table = nn.Embedding(100, output_dim)

    def forward(self, ids):
        return self.table(ids).mean(dim=1)


def narrow(name):
    """Configuration of an architecture with its kinds of parts, two narrow blocks a tower and small frames."""
    config = open_clip.get_model_config(name)
    vision, text = config["vision_cfg"], config["text_cfg"]
    text.update(width=64, heads=2, layers=2)
    if "hf_tokenizer_name" in text:
        text["vocab_size"] = 100
    if "timm_model_name" in vision:
        vision["image_size"] = narrow_options(vision["timm_model_name"])["img_size"]
        if vision.get("timm_proj") == "none":
            config["embed_dim"] = 64
    else:
        vision.update(layers=2, width=64, head_width=32, image_size=4 * vision["patch_size"])
    return config


def narrow_options(name):
    """What timm is told of a transformer, by its name; a convolutional stem fixes the width."""
    stem = name.startswith("vitamin") or "_mci_" in name
    width = {} if stem else {"embed_dim": 64, "num_heads": 2}
    return {"depth": 2, "img_size": 56 if "patch14" in name else 64, **width}


def randomize(model):
    """Draws every parameter and running average, so that none is zero, one or the same as another."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif name.endswith(("weight", "gamma")):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.2)
        for name, average in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                average.uniform_(0.5, 1.5)
