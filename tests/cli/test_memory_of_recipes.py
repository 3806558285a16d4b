"""The papers' trainings fit the memory of the GPUs that they are said to fit."""

import pytest
import yaml

from vlbench.cli.configs import config_names, find_config
from vlbench.cli.methods import build
from vlbench.clips.samplers import micro_batches
from vlbench.protocols.plans import plan
from vlbench.protocols.suites import Suite
from vlbench.tools.memory import estimate

pytestmark = pytest.mark.usefixtures("untraced", "pretended_gpu")

SUITES = [name for name in config_names() if name.startswith("suite/") and name.endswith("_paper.yaml")]
IN_GROUPS = {"action_clip_fully_supervised", "open_vclip_zeroshot", "ost_fewshot", "ost_zeroshot"} | {
    "x_clip_fully_supervised"
}
"""Recipes that mix or contrast more clips at once than `overlay/24gb.yaml` has."""


def merged(configs):
    """The settings of configurations, later ones over earlier ones."""

    def update(settings, other):
        for key, value in other.items():
            if isinstance(value, dict) and isinstance(settings.get(key), dict):
                update(settings[key], value)
            else:
                settings[key] = value

    settings = {}
    for name in configs:
        update(settings, yaml.safe_load(find_config(name).read_text()))
    return settings


def trainings():
    """The configurations of each training that differs in its memory."""
    found = {}
    for suite in SUITES:
        for stage in plan(Suite.read(find_config(suite))):
            if stage.action == "fit":
                data = merged(stage.configs)["data"]["init_args"]
                model = tuple(
                    name for name in stage.configs if "model" in yaml.safe_load(find_config(name).read_text())
                )
                found.setdefault((model, data["batch_size"], data["frames"]), stage.configs)
    return list(found.values())


def for_24gb(configs):
    """The overlays for 24 GB."""
    return ["precision/bf16.yaml" if configs[0].removesuffix(".yaml") in IN_GROUPS else "overlay/24gb.yaml"]


def group_of(method):
    """Number of clips that a method mixes or contrasts with each other."""
    mixing = getattr(method, "mixing", None)
    of_method = (getattr(method, name, 1) for name in ("contrasted_clips", "interpolated_clips"))
    return max(getattr(mixing, "mixed_clips", 1), *of_method)


@pytest.mark.parametrize("configs", trainings(), ids=lambda configs: "+".join(configs).replace(".yaml", ""))
def test_fewer_clips_at_once_change_nothing_else(configs):
    """Neither steps nor rates; where a group of clips would not be whole, the recipe is one of the few."""
    own, smaller = merged(configs), merged([*configs, "overlay/24gb.yaml"])
    assert smaller["data"]["init_args"].pop("batch_size") == 4
    assert smaller["trainer"].pop("precision") == "bf16-mixed"
    own["data"]["init_args"].pop("batch_size")
    assert smaller == own
    group = group_of(build(configs))
    assert (group > 4) == (configs[0].removesuffix(".yaml") in IN_GROUPS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlays", "gigabytes", "precision"),
    [(lambda _: [], 80, "32-true"), (for_24gb, 24, "bf16-mixed")],
    ids=["80 GB", "24 GB"],
)
@pytest.mark.parametrize("configs", trainings(), ids=lambda configs: "+".join(configs).replace(".yaml", ""))
def test_a_training_fits(configs, overlays, gigabytes, precision):
    """With a twentieth to spare, and with the effective batch of the paper."""
    overlays = overlays(configs)
    settings = merged([*configs, *overlays])
    data = settings["data"]["init_args"]
    assert settings["trainer"].get("precision", "32-true") == precision
    method = build([*configs, *overlays])
    memory = estimate(method, frames=data["frames"], batch_size=data["batch_size"], precision=precision)
    assert memory.total < 0.95 * gigabytes * 1e9
    effective = merged(configs)["data"]["init_args"]["loading"]["effective_batch"]
    assert data["loading"]["effective_batch"] == effective
    at_once, times = micro_batches(effective, 1, data["batch_size"])
    assert at_once * times == effective
    assert at_once <= data["batch_size"]
    assert at_once % group_of(method) == 0
