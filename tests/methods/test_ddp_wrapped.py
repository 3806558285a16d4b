"""DDP around every method, as `trainer/ddp.yaml` sets it: the gradients it waits for come, and it warns of nothing."""

import inspect
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
import torch.distributed as dist
import yaml
from torch.nn.parallel import DistributedDataParallel

from tests.deploy.methods import FRAMES, KINDS, NAMES, moved
from tests.methods.test_contrastive import Loss
from vlbench.cli.configs import find_config
from vlbench.clips.batch import ClipBatch
from vlbench.errors import ConfigError
from vlbench.methods import MoTE
from vlbench.methods.head_only.base import HeadOnly

OPTIONS = yaml.safe_load(find_config("trainer/ddp.yaml").read_text())["trainer"]["strategy"]["init_args"]
STEPS = [kind for kind in KINDS.values() if not issubclass(kind, HeadOnly)]


@pytest.fixture(scope="module")
def one_process():
    """A group of this process alone: DDP looks for gradients, copies and warns there as in a larger one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small steps, which threads that wait for each other make slow on a busy machine
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    torch.set_warn_always(True)
    yield
    torch.set_num_threads(threads)
    torch.set_warn_always(False)
    dist.destroy_process_group()


def values(hint, default):
    """Values of an option that may leave a part of the loss or of the towers out, or put another in its place."""
    kinds = (hint, *get_args(hint)) if get_origin(hint) is not tuple else ()
    found = [*get_args(hint)] if get_origin(hint) is Literal else []
    found += [False, True] * (bool in kinds) + [0] * (int in kinds or float in kinds)
    return [value for value in found if value != default]


def cases(kind):
    hints = get_type_hints(kind.__init__)
    parameters = inspect.signature(kind).parameters.items()
    return [{}, *({name: value} for name, given in parameters for value in values(hints[name], given.default))]


def check_steps(method, capfd):
    """Two training steps of a method under DDP: the second raises if a gradient of the first did not come."""
    wrapped = DistributedDataParallel(
        Loss(method.train()), **{**OPTIONS, "find_unused_parameters": method.leaves_parameters_unused}
    )
    size = method.backbone.image_size
    clips = torch.randint(256, (8, FRAMES, 3, size, size), dtype=torch.uint8)
    batch = ClipBatch(clips, torch.arange(8) % len(NAMES), list("abcdefgh"), {})
    for _ in range(2):
        wrapped(batch).backward()
    # Of a search for unused parameters that finds none, and of gradients that are copied into buckets.
    assert "Warning" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", STEPS)
def test_ddp_waits_for_the_gradients_that_come(one_process, kind, capfd):
    for options in cases(kind):
        try:
            method = moved(kind, **options)
        except ConfigError:
            continue  # an option that may not be 0
        if any(parameter.requires_grad for parameter in method.parameters()):
            check_steps(method, capfd)


@pytest.mark.parametrize("experts", [0, 1, 2])
def test_ddp_waits_for_motes_experts(one_process, experts, capfd):
    """Without the merged branch the experts that were not drawn get no gradient, if there are several."""
    check_steps(moved(MoTE, experts=experts, merge_loss=0.0, mse_loss=0.0), capfd)
