"""The papers' trainings fit the memory of the GPUs that they are said to fit."""

import pytest
import yaml

from vlbench.cli.configs import find_config
from vlbench.cli.methods import build
from vlbench.clips.samplers import micro_batches
from vlbench.protocols.plans import plan
from vlbench.protocols.suites import Suite
from vlbench.tools.memory import estimate

pytestmark = pytest.mark.usefixtures("untraced", "pretended_gpu")

SUITES = ("mote_paper.yaml", "msta_paper.yaml")


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
        for stage in plan(Suite.read(find_config(suite, below="suite"))):
            if stage.action == "fit":
                data = merged(stage.configs)["data"]["init_args"]
                model = tuple(
                    name for name in stage.configs if "model" in yaml.safe_load(find_config(name).read_text())
                )
                found.setdefault((model, data["batch_size"], data["frames"]), stage.configs)
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlays", "gigabytes", "precision"),
    [([], 80, "32-true"), (["overlay/24gb.yaml"], 24, "bf16-mixed")],
    ids=["80 GB", "24 GB"],
)
@pytest.mark.parametrize("configs", trainings(), ids=lambda configs: "+".join(configs).replace(".yaml", ""))
def test_a_training_fits(configs, overlays, gigabytes, precision):
    """With a twentieth to spare, and with the effective batch of the paper."""
    settings = merged([*configs, *overlays])
    data = settings["data"]["init_args"]
    assert settings["trainer"].get("precision", "32-true") == precision
    memory = estimate(
        build([*configs, *overlays]), frames=data["frames"], batch_size=data["batch_size"], precision=precision
    )
    assert memory.total < 0.95 * gigabytes * 1e9
    effective = merged(configs)["data"]["init_args"]["loading"]["effective_batch"]
    assert data["loading"]["effective_batch"] == effective
    at_once, times = micro_batches(effective, 1, data["batch_size"])
    assert at_once * times == effective
    assert at_once <= data["batch_size"]
