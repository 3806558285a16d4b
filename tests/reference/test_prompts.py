"""MoTE's templates, CLIP's tokens and the class features made of them, against the released code's."""

import pytest
import torch

from tests.reference.golden import close, golden_cases
from vlbench.backbones import OpenAICLIP
from vlbench.methods.parts.class_features import ensemble, prompted
from vlbench.methods.parts.prompts import PROMPTS


def text_backbone(golden, folder):
    """A CLIP in OpenAI's format with the text tower of the case, or with a blank one; its image tower is blank."""
    state = golden.state()
    width, embed = state.get("text_projection", torch.zeros(64, 64)).shape
    table = torch.zeros(49408, width, dtype=torch.half)
    if state:
        table[state.pop("token_embedding.row_ids")] = state.pop("token_embedding.rows")
    blank = {
        "visual.conv1.weight": (64, 3, 8, 8),
        "visual.class_embedding": (64,),
        "visual.positional_embedding": (2, 64),
        "visual.proj": (64, embed),
        "positional_embedding": (77, width),
        "text_projection": (width, embed),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
    }
    blank |= {f"visual.{name}.{part}": (64,) for name in ("ln_pre", "ln_post") for part in ("weight", "bias")}
    for tower, size in (("visual.", 64), ("", width)):
        if tower or not state:
            shapes = {"attn.in_proj_": 3 * size, "attn.out_proj.": size, "mlp.c_fc.": 4 * size, "mlp.c_proj.": size}
            for name, outputs in shapes.items():
                inputs = 4 * size if name == "mlp.c_proj." else size
                blank[f"{tower}transformer.resblocks.0.{name}weight"] = (outputs, inputs)
                blank[f"{tower}transformer.resblocks.0.{name}bias"] = (outputs,)
            for name in ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"):
                blank[f"{tower}transformer.resblocks.0.{name}"] = (size,)
    zeros = {key: torch.zeros(shape, dtype=torch.half) for key, shape in blank.items()}
    torch.save(
        {"logit_scale": torch.tensor(0.0), "token_embedding.weight": table, **zeros, **state}, folder / "clip.pt"
    )
    return OpenAICLIP(str(folder / "clip.pt")).eval()


@pytest.mark.parametrize("golden", golden_cases("text", "templates"))
def test_templates(golden):
    assert list(PROMPTS["mote"]) == golden.facts["templates"]


@pytest.mark.parametrize("golden", golden_cases("text", "token_ids"))
def test_token_ids(golden, tmp_path):
    backbone = text_backbone(golden, tmp_path)
    for template, expected in golden.facts["token_ids"].items():
        ids = backbone.tokenize([template.format(name) for name in golden.facts["class_names"]]).tolist()
        longest = max(map(len, expected))
        assert ids == [text + [0] * (longest - len(text)) for text in expected]


@pytest.mark.parametrize("golden", golden_cases("text", "out.class_features"))
def test_class_features(golden, tmp_path):
    names = golden.facts["class_names"]
    with torch.no_grad():
        encoded = text_backbone(golden, tmp_path).encode_texts(prompted(names, PROMPTS["mote"]))
    close(ensemble(encoded, len(names)), golden["out.class_features"], 1e-5)
