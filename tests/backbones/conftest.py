import json

import open_clip
import pytest
import timm

from tests.backbones.models import HubText, HubTokenizer


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Adds configurations to open_clip's registry, for one test."""
    factory = open_clip.factory
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))

    def add(name, config):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)
        return name

    return add


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
