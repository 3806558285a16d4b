import pytest
import timm
import torch

from tests.backbones.models import HubText, HubTokenizer, narrow, narrow_options, randomize
from vlbench.backbones.openclip import CLIPEncoder, create_clip
from vlbench.backbones.tokenizers import ModelTokenizer


@pytest.fixture
def hub(monkeypatch):
    """Has open_clip take `HubTokenizer` for every tokenizer of the hub."""
    monkeypatch.setattr(HubTokenizer, "made", ())
    monkeypatch.setattr("open_clip.tokenizer.HFTokenizer", HubTokenizer)
    return HubTokenizer


@pytest.fixture
def hub_text(monkeypatch):
    """Has open_clip take `HubText` for every text model of the hub."""
    monkeypatch.setattr(HubText, "made", ())
    monkeypatch.setattr("open_clip.model.HFTextEncoder", HubText)
    return HubText


@pytest.fixture
def shallow(monkeypatch):
    """Has timm build its transformers with two blocks."""
    create = timm.create_model

    def create_model(name, **options):
        return create(name, **options, **({"depth": 2} if name.startswith(("vit_", "eva02_")) else {}))

    monkeypatch.setattr(timm, "create_model", create_model)


@pytest.fixture
def make_narrow(monkeypatch, register, hub):
    """Builds a model of open_clip with narrow towers and random weights, and our backbone with the same parameters."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **options, **narrow_options(name)))

    def make(model):
        config = narrow(model)
        name = register(f"narrow-{model}", config)
        torch.manual_seed(0)
        clip = create_clip(name, None)
        randomize(clip)
        clip = clip.double().eval()
        return clip, CLIPEncoder(clip, ModelTokenizer(name, config), name=name, pretrained=None).eval()

    return make
