"""Every architecture of open_clip is a backbone: transformers with blocks that methods change, all others whole."""

import open_clip
import pytest
import torch
from torch import nn

from tests.backbones.models import HubTokenizer, reduced
from vlbench.backbones import OpenCLIP
from vlbench.backbones.catalogue import entries, entry_of
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import MSTA, MoTE, ZeroShot
from vlbench.methods.parts import class_features

NAMES = ["a cat", "a person who jumps over a rather long fence"]
FAMILIES = [
    "ViT-B-16-SigLIP", "PE-Core-T-16-384", "EVA02-B-16", "MobileCLIP2-S0", "ViTamin-S", "coca_ViT-B-32",
    "ViT-L-14-CLIPA", "RN50-quickgelu", "convnext_tiny", "ViT-H-14-worldwide",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model", open_clip.list_models())
def test_every_architecture_is_described_as_it_is_built(model, hub_text):
    with torch.device("meta"):
        backbone = OpenCLIP(model).eval()
    entry, config = entry_of(model), open_clip.get_model_config(model)
    assert (entry.capabilities, entry.without_roles) == (backbone.capabilities, backbone.without_roles)
    assert (entry.image_size, entry.embed_dim) == (backbone.image_size, backbone.embed_dim)
    assert backbone.embed_dim == config["embed_dim"]
    assert entry.context == backbone.texts.context == config["text_cfg"].get("context_length", 77)
    if not hub_text.made:
        assert entry.text_width == backbone.text_width
    for method in (ZeroShot, MoTE, MSTA):
        assert method.refusal(model, entry) == method.refusal(model, backbone)
        assert (method.refusal(model, entry) is None) or method is not ZeroShot


@pytest.mark.slow
@pytest.mark.parametrize("model", FAMILIES)
def test_features_are_those_of_open_clip_and_clips_are_scored(model, register, hub, shallow):
    torch.manual_seed(0)
    name = register(f"reduced-{model}", reduced(model))
    backbone = OpenCLIP(name).eval()
    for module in backbone.modules():  # some attention pools begin as zeros
        if isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02)
    plain = open_clip.create_model(name, pretrained_text=False)
    plain.load_state_dict(backbone.clip.state_dict())
    plain.eval()
    clips = torch.randint(0, 256, (1, 2, 3, backbone.image_size, backbone.image_size), dtype=torch.uint8)
    pixels = backbone.normalize(clips)
    needs_hub = open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name")
    context = open_clip.get_model_config(name)["text_cfg"]["context_length"]
    tokenize = HubTokenizer(name, context) if needs_hub else open_clip.get_tokenizer(name)
    with torch.no_grad():
        expected = (
            plain.encode_image(pixels[0], normalize=False),
            plain.encode_text(tokenize(NAMES, context_length=context), normalize=False),
        )
        actual = backbone.encode_frames(pixels)[0], backbone.encode_texts(NAMES)
        for ours, theirs in zip(actual, expected, strict=True):
            assert ours.abs().max() > 0
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        chunked = backbone.encode_texts(NAMES, chunk=1)
        torch.testing.assert_close(chunked, actual[1], rtol=1e-5, atol=1e-5)
        method = ZeroShot(backbone).eval()
        scores = method.score(method.encode_video(pixels), method.encode_classes(NAMES))
    assert scores.shape == (1, 2)
    assert scores.isfinite().all()


def whole(register, **vision):
    """A backbone that is kept whole, because its image blocks have parts without a role, with random weights."""
    config = reduced("ViT-B-32")
    config["vision_cfg"].update(block_type="custom", width=64, head_width=64, **vision)
    return OpenCLIP(register("reduced-custom", config))


def test_a_backbone_without_blocks_says_so(register):
    backbone = whole(register)
    assert not backbone.capabilities.blocks
    for tower in ("image", "text"):
        with pytest.raises(
            ConfigError, match=f"reduced-custom has no {tower} blocks that can be reached: .*; use a CLIP"
        ):
            getattr(backbone, tower)
    with pytest.raises(ConfigError, match="MSTA's adapters run beside blocks, reduced-custom has none"):
        MSTA(backbone)
    with pytest.raises(ConfigError, match="no image blocks"):
        MoTE(backbone, grad_checkpointing=True)


def test_heads_that_do_not_divide_features_are_refused():
    with torch.device("meta"):
        backbone = OpenCLIP("EVA01-g-14")
    with pytest.raises(ConfigError, match=r"MoTE's head divides features among 12 .* EVA01-g-14 has features of 1024"):
        MoTE(backbone)


def test_mote_tunes_the_image_tower_of_a_whole_model(register):
    backbone = whole(register)
    method = MoTE(backbone, layers=1, experts=2)
    method.train()
    frames = backbone.encode_frames(torch.randn(2, 2, 3, 224, 224))
    method.train_class_features = torch.randn(3, backbone.embed_dim)
    method.losses(frames, torch.tensor([0, 1]), [0], [0])["loss"].backward()
    trained = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert "clip.visual.conv1.weight" in trained
    assert not any(name.startswith(("clip.transformer", "clip.token_embedding")) for name in trained)


def test_kept_class_features_have_no_dropout(register, monkeypatch, tmp_path):
    """Text models of the hub have some, and a training asks for the features of its classes in training mode."""
    backbone = whole(register).train()
    backbone.clip.ln_final = nn.Sequential(backbone.clip.ln_final, nn.Dropout(0.5))
    backbone.visual.eval()
    features = []
    for folder in ("first", "second"):
        monkeypatch.setattr(class_features, "cache_folder", lambda folder=folder: tmp_path / folder)
        features.append(class_features.frozen_ensemble(backbone, NAMES, 2))
    assert torch.equal(*features)
    assert backbone.training
    assert backbone.clip.ln_final[1].training
    assert not backbone.visual.training


def test_batch_norms_keep_the_averages_of_the_weights(register):
    """A clip's features depend on no other clip, in training neither, and no buffer of the backbone moves."""
    backbone = OpenCLIP(register("reduced-rn", reduced("RN50"))).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    clips = torch.randn(3, 1, 3, 64, 64)
    with torch.no_grad():
        together, alone = backbone.encode_frames(clips), backbone.encode_frames(clips[:1])
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    assert backbone.training
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())


def test_a_bias_of_the_logits_is_recorded_and_changes_no_score(register, hub):
    config = reduced("ViT-B-32")
    config["vision_cfg"].update(width=64, head_width=64)
    config.update(custom_text=True, init_logit_bias=-10)
    backbone = OpenCLIP(register("reduced-bias", config)).eval()
    assert backbone.settings()["logit_bias"] == -10
    method = ZeroShot(backbone)
    with torch.no_grad():
        video, classes = torch.randn(2, backbone.embed_dim), method.encode_classes(NAMES)
        before = method.score(video, classes)
        backbone.clip.logit_bias.fill_(3)
        assert torch.equal(method.score(video, classes), before)
    assert "logit_bias" not in whole(register).settings()


@pytest.mark.parametrize("kind", ["towers", "whole"])
def test_frames_of_another_size_are_refused(kind, register):
    backbone = whole(register) if kind == "whole" else OpenCLIP(register("reduced", reduced("ViT-B-32")))
    with pytest.raises(ConfigError, match=r"frames are 256 x 256 pixels and \S+ takes 224 x 224; .*image_size=224"):
        backbone.encode_frames(torch.empty(1, 1, 3, 256, 256))


def test_unknown_names_get_the_nearest_ones():
    with pytest.raises(ConfigError, match=r"no model 'pe-core-l14-336'; did you mean PE-Core-L-14-336"):
        OpenCLIP("pe-core-l14-336")


def test_a_tag_of_another_architecture_is_named():
    with pytest.raises(CheckpointError, match=r"'webli': neither a file nor a tag of ViT-B-32; .*ViT-B-16-SigLIP2"):
        OpenCLIP("ViT-B-32", pretrained="webli")


@pytest.mark.parametrize("tag", ["dfn2b", "metaclip_400m"])
def test_weights_of_quick_gelu_need_it(tag):
    with pytest.raises(ConfigError, match=f"'{tag}'.*quick GELU; use model: ViT-B-16-quickgelu"):
        OpenCLIP("ViT-B-16", pretrained=tag)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_of_another_image_size_are_not_stretched(suffix, register, tmp_path):
    from safetensors.torch import save_file

    config = reduced("ViT-B-32")
    config["vision_cfg"].update(width=64, head_width=64)
    source = OpenCLIP(register("reduced-224", config))
    config["vision_cfg"].update(image_size=256)
    register("reduced-256", config)
    path = tmp_path / f"weights.{suffix}"
    state = {key: value.contiguous() for key, value in source.clip.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    stated = {"preprocess": source.preprocess}
    assert OpenCLIP("reduced-224", str(path), **stated).identity.digest == source.identity.digest
    with pytest.raises(CheckpointError, match=r"not of reduced-256: visual.positional_embedding is \(50, 64\)"):
        OpenCLIP("reduced-256", str(path), **stated)


def test_a_file_of_another_architecture_is_a_short_message(register, tmp_path):
    torch.save(OpenCLIP(register("reduced", reduced("RN50"))).clip.state_dict(), tmp_path / "weights.pt")
    register("other", reduced("convnext_tiny"))
    with pytest.raises(CheckpointError, match=r"cannot load the weights .* of other") as refused:
        OpenCLIP("other", str(tmp_path / "weights.pt"), preprocess=OpenCLIP("reduced").preprocess)
    assert len(str(refused.value)) < 900


def test_a_text_longer_than_the_context_of_a_whole_model_is_named(register):
    backbone = whole(register)
    with pytest.raises(ConfigError, match=r"very very .* more than the 77 tokens"):
        backbone.tokenize(["short", "very " * 80])
    assert backbone.tokenize(["cat " * 75]).shape == (1, 77)


def test_a_tokenizer_of_the_hub_cuts_texts_and_the_record_says_so(register, hub):
    config = reduced("ViT-L-14-CLIPA")
    config["vision_cfg"].update(width=64, head_width=64)
    backbone = OpenCLIP(register("reduced-clipa", config))
    assert hub.made == (("bert-base-uncased", 32, {"tokenizer_mode": None, "strip_sep_token": True}),)
    assert backbone.tokenize(["very " * 80]).shape == (1, 32)
    assert backbone.settings()["long_texts"] == "cut"
    assert "long_texts" not in whole(register).settings()


def test_a_folder_stands_in_for_the_hub_and_its_files_are_part_of_the_identity(register, hub, tmp_path):
    config = reduced("ViT-L-14-CLIPA")
    config["vision_cfg"].update(width=64, head_width=64)
    name = register("reduced-clipa", config)
    for folder, content in (("one", "1"), ("same", "1"), ("other", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tokenizer.json").write_text(content)
    settings = [OpenCLIP(name, text_files=str(tmp_path / folder)).settings() for folder in ("one", "same", "other")]
    assert hub.made[0][0] == str(tmp_path / "one")
    assert settings[0] == settings[1] != settings[2]
    with pytest.raises(ConfigError, match=r"not a folder.*bert-base-uncased \(tokenizer.json"):
        OpenCLIP(name, text_files=str(tmp_path / "missing"))


def test_missing_files_of_a_tokenizer_are_named(monkeypatch):
    def missing(*arguments, **options):
        raise OSError("no connection")

    monkeypatch.setattr("open_clip.tokenizer.HFTokenizer", missing)
    with pytest.raises(
        ConfigError, match=r"timm/ViT-B-16-SigLIP2 .*no connection.*pip install transformers.*text_files"
    ):
        OpenCLIP("ViT-B-16-SigLIP2")
    with pytest.raises(ConfigError, match="ViT-B-32 has CLIP's tokenizer, which comes with open_clip"):
        OpenCLIP("ViT-B-32", text_files="folder")


def test_text_models_of_the_hub_are_built_from_a_folder(hub, hub_text, tmp_path, register):
    config = open_clip.get_model_config("roberta-ViT-B-32")
    config["vision_cfg"].update(layers=1, width=64, head_width=64)
    backbone = OpenCLIP(register("reduced-roberta", config), text_files=str(tmp_path)).eval()
    assert hub_text.made == ((str(tmp_path), False),)
    assert backbone.encode_texts(NAMES).shape == (2, 512)
    assert backbone.text_width == 128


def test_a_text_model_that_cannot_be_built_is_named(monkeypatch):
    monkeypatch.setattr("open_clip.hf_model.transformers", None)
    monkeypatch.setattr("open_clip.tokenizer.HFTokenizer", HubTokenizer)
    with pytest.raises(
        ConfigError, match=r"text model roberta-base .*pip install transformers.*config.json.*text_files"
    ):
        OpenCLIP("roberta-ViT-B-32")


def test_the_catalogue_is_of_every_architecture():
    assert [entry.name for entry in entries()] == open_clip.list_models()
