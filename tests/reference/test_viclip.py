"""ViCLIP's towers against the released code's outputs."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tests.reference.golden import Case, close, golden_cases, unit
from vlbench.backbones import ViCLIP
from vlbench.backbones.layouts import Joint
from vlbench.backbones.viclip_parts import ViCLIPSizes, temporal_positions
from vlbench.cli.main import main


def sizes_of(facts: dict) -> ViCLIPSizes:
    return ViCLIPSizes(
        facts["embed"], facts["image"], facts["patch"], facts["vw"], facts["vl"], facts["vh"],
        facts["tw"], facts["tl"], facts["th"], facts["T"], facts["context_length"], facts["vocab_size"],
    )  # fmt: skip


def released(golden: Case) -> dict[str, torch.Tensor]:
    """The state dict as it is published, but for its dense token table."""
    state = {key: value.float() for key, value in golden.state().items() if ".token_embedding." not in key}
    rows = "text_encoder.token_embedding.row"
    table = torch.zeros(golden.facts["vocab_size"], golden.facts["tw"])
    table[golden.state()[f"{rows}_ids"]] = golden.state()[f"{rows}s"].float()
    return {**state, "text_encoder.token_embedding.weight": table}


@pytest.fixture(params=golden_cases("viclip", "state"))
def golden(request):
    return request.param


@pytest.fixture
def backbone(golden, tmp_path, capsys):
    """Through the command that users run."""
    torch.save({"model": released(golden)}, tmp_path / "ViClip.pth")
    out = tmp_path / "viclip.safetensors"
    assert main(["weights", "import", "viclip", str(tmp_path / "ViClip.pth"), "--out", str(out)]) == 0
    assert "not those of a released model" in capsys.readouterr().out.replace("\n", " ")
    return ViCLIP("golden", str(out), sizes=sizes_of(golden.facts)).eval()


def test_features(golden, backbone):
    video = golden["in.video"]
    with torch.no_grad():
        raw = backbone.encode_frames(video)
        assert raw.shape[1] == 1
        close(raw[:, 0], golden["out.video_features_raw"], 1e-5)
        close(unit(raw[:, 0]), golden["out.video_features"], 1e-5)
        close(backbone.encode_frames(video.flip(1))[:, 0], golden["out.video_reversed_features_raw"], 1e-5)
        close(backbone.encode_frames(golden["in.image"].unsqueeze(1))[:, 0], golden["out.image_features_raw"], 1e-5)
        close(backbone.encode_frames(video[:, :1])[:, 0], golden["out.one_frame_clip_features_raw"], 1e-5)
        texts = backbone.encode_texts(golden.facts["texts"])
        close(texts, golden["out.text_features_raw"], 1e-5)
        close(unit(texts), golden["out.text_features"], 1e-5)
        logits = backbone.logit_scale.exp() * unit(raw[:, 0]) @ unit(texts).T
        largest = golden["out.top5_prob"]
        close(logits.softmax(-1).topk(largest.shape[-1]).values, largest, 1e-4)


def test_token_ids_are_those_of_the_released_tokenizer(golden, backbone):
    ids = backbone.tokenize(golden.facts["texts"])
    expected = golden["in.token_ids"]
    assert torch.equal(ids, expected[:, : ids.shape[1]])
    assert not expected[:, ids.shape[1] :].any()


def test_order_of_the_tokens(golden, backbone):
    """The class token, then patch by patch, time inside."""
    vision, frames = backbone.vision_encoder, golden.facts["T"]
    layout = Joint(frames)
    with torch.no_grad():
        tokens = backbone.image.run(vision.embed(golden["in.video"][:1]), layout)
        close(vision.ln_post(tokens), golden["out.tokens_after_ln_post"], 1e-5)
    token, patches = layout.split(tokens)
    assert torch.equal(token[0, 0, 0], tokens[0, 0])
    assert torch.equal(patches[0].transpose(0, 1).flatten(0, 1), tokens[0, 1:])
    assert torch.equal(layout.join([token, patches]), tokens)


def test_temporal_positions_of_other_lengths(golden):
    table = golden["state.vision_encoder.temporal_positional_embedding"].float()
    for frames, expected in golden.starting("out.temporal_embedding_to_").items():
        close(temporal_positions(table, int(frames), "cut_or_pad"), expected, 1e-5)


def test_preprocessing_constants(golden, backbone):
    """The demo takes every (n // T)-th frame, squashes it to a square and normalises it with ImageNet's constants."""
    frames = golden["pre.in_bgr_u8"].flip(-1).permute(0, 3, 1, 2)
    step = len(frames) // golden.facts["T"]
    chosen = frames[::step][: golden.facts["T"]].float()
    size = golden.facts["image"]
    squashed = F.interpolate(chosen, (size, size), mode="bilinear", align_corners=False).round().to(torch.uint8)
    grey_level = 1 / 255 / min(golden.facts["std"])
    assert (backbone.normalize(squashed) - golden["pre.out"][0]).abs().max() <= grey_level + 1e-6


def test_a_released_file_loads_without_the_detour(golden, backbone, tmp_path):
    torch.save({"model": released(golden)}, tmp_path / "again.pth")
    direct = ViCLIP("golden", str(tmp_path / "again.pth"), sizes=sizes_of(golden.facts))
    assert direct.identity.digest == backbone.identity.digest


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("vision_encoder.class_embedding"), "missing: vision_encoder.class_embedding"),
        (lambda s: s.update({"vision_encoder.more": torch.zeros(1)}), "unexpected: vision_encoder.more"),
        (
            lambda s: s.update({"text_encoder.ln_final.bias": torch.zeros(3)}),
            r"misshapen: text_encoder.ln_final.bias is \(3,\)",
        ),
        (lambda s: s.pop("temp"), "is no ViCLIP file"),
    ],
)
def test_damaged_files_are_named(golden, tmp_path, damage, message):
    from vlbench.errors import CheckpointError

    state = released(golden)
    damage(state)
    torch.save({"model": state}, tmp_path / "damaged.pth")
    with pytest.raises(CheckpointError, match=message):
        ViCLIP("golden", str(tmp_path / "damaged.pth"), sizes=sizes_of(golden.facts))
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="missing"):
        ViCLIP("golden", str(tmp_path / "other.safetensors"), sizes=sizes_of(golden.facts))
