"""InternVideo2-CLIP's towers against the released code's outputs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.reference.golden import Case, close, golden_cases, unit
from vlbench.backbones import InternVideo2
from vlbench.backbones.internvideo2 import _renamed
from vlbench.backbones.internvideo2_parts import (
    InternVideo2Sizes,
    PlainTokenizer,
    VideoParts,
    plain_text,
    resized_positions,
)
from vlbench.backbones.layouts import JointByFrame
from vlbench.backbones.towers import Tower
from vlbench.cli.main import main
from vlbench.clips.transforms import test_frames as frames_of_a_test
from vlbench.errors import CheckpointError

SIZES = InternVideo2Sizes(48, 80, 56, 14, 96, 2, 6, 4, 64, 2, 4, frames=4)


def beside(case, name):
    return Case(case.folder / f"{name}.json")


def sizes_of(facts):
    vision, text = facts["vision_encoder"], facts["text_cfg"]["text_cfg"]
    return InternVideo2Sizes(
        vision["align_dim"], vision["clip_embed_dim"], vision["img_size"], vision["patch_size"], vision["embed_dim"],
        vision["depth"], vision["num_heads"], vision["attn_pool_num_heads"], text["dim"], text["n_transformer_layers"],
        text["n_heads_per_layer"], vision["mlp_ratio"], vision["num_frames"], text["context_length"],
    )  # fmt: skip


def released(golden):
    """The state dict as it is published, but for its dense token table."""
    rows = "text_encoder.embedding_layer.row"
    state = {key: value.float() for key, value in golden.state().items() if not key.startswith(rows)}
    table = torch.zeros(49408, golden.state()[f"{rows}s"].shape[1])
    table[golden.state()[f"{rows}_ids"]] = golden.state()[f"{rows}s"].float()
    return {**state, "text_encoder.embedding_layer.weight": table}


@pytest.fixture(scope="module", params=golden_cases("internvideo2_clip/weights", "state"))
def golden(request):
    return request.param


@pytest.fixture(scope="module")
def file(golden, tmp_path_factory):
    """Through the command that users run."""
    folder = tmp_path_factory.mktemp("internvideo2")
    torch.save({"module": released(golden)}, folder / "pytorch_model.bin")
    out = folder / "internvideo2.safetensors"
    assert main(["weights", "import", "internvideo2", str(folder / "pytorch_model.bin"), "--out", str(out)]) == 0
    return str(out)


@pytest.fixture
def backbone(golden, file):
    return InternVideo2("golden", file, sizes=sizes_of(golden.facts)).eval()


def with_exact_gelu(backbone):
    """As the released code computes where its fused kernels are switched off."""
    for block in backbone.vision_encoder.blocks:
        block.mlp.gelu = nn.GELU()
    return backbone


def off(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@torch.no_grad()
def test_features(golden, backbone):
    case = beside(golden, "vision")
    video, vision = case["in.video"], backbone.vision_encoder
    raw = backbone.encode_frames(video)
    assert raw.shape[1] == 1
    close(raw[:, 0], case["fused.features_raw"], 1e-5)
    close(unit(raw[:, 0]), case["fused.features"], 1e-5)
    assert off(raw[:, 0], case["out.features_raw"]) > 3e-5  # another activation
    close(backbone.encode_frames(case["in.image"])[:, 0], case["image.fused_features_raw"], 1e-5)
    close(vision.embed(case["in.image"]), case["image.embed"], 1e-5)
    embedded = vision.embed(video)
    close(embedded[: len(case["out.embed"])], case["out.embed"], 1e-5)
    layout = JointByFrame(video.shape[1])
    for last in range(len(backbone.image.blocks)):
        expected = case[f"fused.block{last}"]
        close(backbone.image.run(embedded, layout, stop=last + 1)[: len(expected)], expected, 1e-5)
    pooled = vision.pooling(backbone.image.run(embedded, layout))
    close(pooled, case["fused.pooled"], 1e-5)
    close(vision.align[0](pooled), case["fused.align_norm"], 1e-5)


@torch.no_grad()
def test_features_without_the_fused_kernels(golden, backbone):
    case = beside(golden, "vision")
    video = case["in.video"]
    attention = backbone.image.blocks[0].attention
    y = backbone.image.blocks[0].norm1(backbone.vision_encoder.embed(video[:1]))
    q, k, _ = attention.project(y)
    close(attention.query_norm(q), case["out.block0_q"], 1e-5)
    close(attention.key_norm(k), case["out.block0_k"], 1e-5)
    with_exact_gelu(backbone)
    close(backbone.encode_frames(video)[:, 0], case["out.features_raw"], 1e-5)
    close(backbone.encode_frames(video.flip(1))[:, 0], case["out.reversed_features_raw"], 1e-5)
    close(backbone.encode_frames(case["in.image"])[:, 0], case["image.features_raw"], 1e-5)


@torch.no_grad()
def test_the_norms_epsilon(golden, backbone):
    case, vision = beside(golden, "vision"), backbone.vision_encoder
    scaled = [vision.cls_token, vision.pos_embed, *vision.conv1.parameters()]
    for parameter in scaled + [p for name, p in vision.named_parameters() if name.endswith("gamma")]:
        parameter.mul_(2**-10)
    close(backbone.encode_frames(case["in.video"])[:, 0], case["eps.fused_features_raw"], 1e-5)


@torch.no_grad()
def test_texts(golden, backbone):
    case = beside(golden, "text")
    for texts, ids, features in (
        (case.facts["texts"], "in.token_ids", "out.features_raw"),
        (case.facts["class_texts"], "in.class_token_ids", "out.class_features_raw"),
        ([case.facts["long_text"]], "in.token_ids_long", "out.features_raw_long"),
    ):
        close(backbone.encode_texts(texts), case[features], 1e-5)
        tokens = backbone.tokenize(texts)
        assert torch.equal(tokens, case[ids][:, : tokens.shape[1]])
        assert not case[ids][:, tokens.shape[1] :].any()


@pytest.mark.parametrize("case", golden_cases("internvideo2_clip/text", "pre_text"))
def test_texts_are_prepared_as_released(case):
    assert [plain_text(text) for text in case.facts["texts"]] == case.facts["pre_text"]
    for text, ids in zip(case.facts["texts"], case.facts["token_ids"], strict=True):
        assert PlainTokenizer()([text], 77)[0, : len(ids) + 1].tolist() == [*ids, 0]


@torch.no_grad()
def test_logits(golden, tmp_path):
    case = beside(golden, "similarity")
    cosines = unit(case["in.video_features_raw"]) @ unit(case["in.text_features_raw"]).T
    state = released(golden)
    for index, temperature in enumerate(case.facts["temps_before_clamp"]):
        torch.save({**state, "temp": torch.tensor(temperature)}, tmp_path / "own.bin")
        backbone = InternVideo2("golden", str(tmp_path / "own.bin"), sizes=sizes_of(golden.facts))
        close(backbone.logit_scale.exp() * cosines, case[f"out.logits_temp{index}"], 1e-5)


@pytest.mark.parametrize("case", golden_cases("internvideo2_clip/frames", "cases"))
def test_positions_of_other_clips(case):
    for each in case.facts["cases"]:
        name, (old, new), (_, grid) = each["name"], each["frames"], each["grid"]
        close(resized_positions(case[f"{name}.in"].float(), old, new, grid), case[f"{name}.out"], 1e-5)


@torch.no_grad()
def test_clips_of_other_numbers_of_frames(golden, file):
    case = beside(golden, "frames")
    backbone = InternVideo2("golden", file, temporal_positions="interpolated", sizes=sizes_of(golden.facts)).eval()
    for frames in (each["frames"] for each in case.facts["forward"]):
        video = case[f"frames{frames}.in.video"].float()
        table = resized_positions(
            backbone.vision_encoder.pos_embed, backbone.frames, frames, backbone.vision_encoder.grid
        )
        close(table, case[f"frames{frames}.pos_embed"], 1e-5)
        close(backbone.encode_frames(video)[:, 0], case[f"frames{frames}.fused.features_raw"], 1e-5)


def test_preprocessing(golden, backbone):
    """Within a grey level of the released code under a torchvision that antialiases; its pinned release did not."""
    case = beside(golden, "preprocess")
    for each in case.facts["cases"]:
        frames, size = case[f"c{each['case']}.in_u8"], case.facts["size"]
        preprocess = backbone.preprocess
        squashed, _ = frames_of_a_test(
            frames, size=size, resize=size, crops=1, interpolation=preprocess.interpolation,
            resize_mode=preprocess.resize_mode,
        )  # fmt: skip
        grey_level = 1 / 255 / min(case.facts["std"])
        expected = case[f"c{each['case']}.antialias_on"]
        assert (backbone.normalize(squashed) - expected).abs().max() <= grey_level + 1e-6


@pytest.mark.parametrize("kind", ["fused", "plain"])
def test_gradients_of_its_own_loss(golden, backbone, kind):
    case = beside(golden, "train")
    if kind == "plain":
        with_exact_gelu(backbone)
    with torch.no_grad():
        backbone.logit_scale.fill_(-torch.tensor(case.facts["temp_used"]).log())
    video, text = (
        unit(backbone.encode_frames(case["in.video"].float())[:, 0]),
        unit(backbone.encode_texts(case.facts["texts"])),
    )
    same = (case["in.idx"][:, None] == case["in.idx"]).float()
    targets = same / same.sum(dim=1, keepdim=True)
    logits = backbone.logit_scale.exp() * video @ text.T
    cross_entropy = nn.functional.cross_entropy
    loss = (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2
    close(loss, case[f"{kind}.loss"], 1e-5)
    loss.backward()
    parameters = dict(backbone.named_parameters())
    for prefix in (f"{kind}.grad.", f"{kind}.full_grad."):
        for name, expected in case.starting(prefix).items():
            if name.endswith(("k_bias", "norm1_k.bias")):  # zero in exact arithmetic
                continue
            gradient = parameters[_renamed(name)].grad
            if name == "temp":
                gradient = -gradient / case.facts["temp_used"]
            close(gradient.view_as(expected), expected, 1e-4)
    if kind == "fused":
        for name, norm in case.facts["all_trainable_fused_grad_norms"].items():
            parameter = parameters.get(_renamed(name))
            if name != "temp" and parameter is not None and norm and norm > 1e-3:
                close(parameter.grad.norm(), torch.tensor(norm), 1e-4)


@torch.no_grad()
def test_released_files(golden, tmp_path, capsys):
    """A whole file, and a partial one with the files that its training started from."""
    case = beside(golden, "checkpoint_expect")
    video = case["in.video"].float()
    whole, partial, vision, text = (
        str(golden.folder / name)
        for name in ("clip_full.pth", "clip_partial.pth", "vision_stage1.pth", "mobileclip_text.pt")
    )
    out, sizes = str(tmp_path / "partial.safetensors"), sizes_of(golden.facts)
    assert main(["weights", "import", "internvideo2", partial, "--vision", vision, "--text", text, "--out", out]) == 0
    for kind, path in (("full", whole), ("partial", out)):
        backbone = InternVideo2("golden", path, sizes=sizes).eval()
        close(backbone.encode_frames(video)[:, 0], case[f"{kind}.fused.video_features_raw"], 1e-5)
        features = backbone.text.encode(case["in.token_ids"])
        close(features, case[f"{kind}.text_features_raw"], 1e-5)
    assert backbone.logit_scale.exp().item() == pytest.approx(1 / case.facts["temp_of_partial"], rel=1e-6)
    for bases, missing in (
        ((), "vision_encoder.blocks.*, text_encoder.transformer.*"),
        (("--vision", vision), "text_encoder.transformer.*"),
        (("--text", text), "vision_encoder.blocks.*"),
    ):
        refused = str(tmp_path / "refused.safetensors")
        assert main(["weights", "import", "internvideo2", partial, *bases, "--out", refused]) == 2
        assert f"{missing} is missing" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(CheckpointError, match="--vision and --text"):
        InternVideo2("golden", partial, sizes=sizes)


@torch.no_grad()
@pytest.mark.parametrize("case", golden_cases("internvideo2_clip/vision_1b", "state"))
def test_the_tower_of_the_largest_models(case):
    """No second map, an odd hidden width."""
    config, state = case.facts["config"], case.state()
    sizes = replace(
        SIZES, embed_dim=config["clip"], pooled_dim=config["clip"], image_size=config["img"], width=config["width"],
        layers=config["depth"], heads=config["heads"], pool_heads=config["pool"], mlp_ratio=48 / 11, frames=config["T"],
    )  # fmt: skip
    parts = VideoParts(sizes, config["img"] // config["patch"], "fixed")
    parts.align = nn.Identity()
    names = {key: _renamed(f"vision_encoder.{key}").removeprefix("vision_encoder.") for key in state}
    parts.load_state_dict({names[key]: value.float() for key, value in state.items()})
    video = case["in.video"].transpose(1, 2)
    tower = Tower(parts.blocks, sizes.width)
    close(parts.project(tower.run(parts.embed(video), JointByFrame(config["T"]))), case["fused.features_raw"], 1e-5)


CONFIGS = {"S14": "internvideo2_s14", "B14": "internvideo2_b14", "L14": "internvideo2_l14"}


@pytest.mark.parametrize("case", golden_cases("internvideo2_clip/counts"))
@pytest.mark.parametrize("size", CONFIGS)
def test_numbers_of_parameters(case, size):
    from vlbench.cli.methods import build

    backbone = build(["zero_shot.yaml", f"backbone/{CONFIGS[size]}.yaml"]).backbone
    counts = case.facts[size]

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(backbone) == counts["model_total_8_frames"]
    assert count(backbone.visual) == counts["image_side_8_frames"]
    assert count(backbone.vision_encoder.pooling) == counts["clip_projector"]
    assert count(backbone.image.blocks[0]) == counts["per_block"]
    assert count(backbone.text_encoder) == case.facts["text_mobileclip_b"]["total"]
