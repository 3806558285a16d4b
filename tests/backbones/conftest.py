import pytest
import timm

from tests.backbones.models import HubText, HubTokenizer


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
