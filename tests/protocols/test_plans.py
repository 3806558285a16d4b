import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlbench.data.specs import Subset
from vlbench.errors import ConfigError
from vlbench.protocols.plans import MethodConfig, ProtocolConfig, Suite, plan


def suite(shots, seeds, datasets=("data/a.yaml", "data/b.yaml")):
    return Suite(
        methods={"zero": MethodConfig(["zero.yaml"], trains=False), "msta": MethodConfig(["msta.yaml", "small.yaml"])},
        protocols=[ProtocolConfig("few_shot@1", list(datasets), list(shots), list(seeds))],
        overlays=["cpu.yaml"],
    )


values = st.lists(st.integers(1, 32), min_size=1, max_size=4, unique=True)


@given(shots=values, seeds=values)
def test_a_plan(shots, seeds):
    stages = plan(suite(shots, seeds))
    assert stages == plan(suite(shots, seeds))
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names)
    for position, stage in enumerate(stages):
        if stage.weights_from is not None:
            source = stages[names.index(stage.weights_from)]
            assert names.index(stage.weights_from) < position
            assert source.action == "fit"
            assert (source.train, source.seed, source.configs) == (stage.train, stage.seed, stage.configs)
        # Only the first split is tested: the published training lists overlap the others' test lists.
        assert stage.test == Subset()
    trained = {(s.train.shots, s.seed, s.configs[2]) for s in stages if s.action == "test" and s.train}
    assert trained == {(k, seed, d) for k in shots for seed in seeds for d in ("data/a.yaml", "data/b.yaml")}
    assert sum(stage.train is None for stage in stages) == 2  # zero-shot once a dataset


def test_configurations_come_in_the_order_method_data_overlay():
    stage = plan(suite([2], [0], ["data/a.yaml"]))[1]
    assert stage.configs == ("msta.yaml", "small.yaml", "data/a.yaml", "cpu.yaml")


def test_unknown_protocols_and_repeated_stages_are_refused():
    with pytest.raises(ConfigError, match=r"unknown protocol 'few@9'; allowed: few_shot@1"):
        plan(Suite({}, [ProtocolConfig("few@9", [])]))
    with pytest.raises(ConfigError, match="two stages named"):
        plan(suite([2], [0], ["x/a.yaml", "y/a.yaml"]))


def test_given_weights_are_tested_and_never_trained():
    imported = MethodConfig(["mote.yaml"], trains=False, checkpoint="mote_b16.ckpt")
    (stage,) = plan(Suite({"released": imported}, [ProtocolConfig("few_shot@1", ["data/a.yaml"])]))
    assert (stage.action, stage.checkpoint, stage.train, stage.weights_from) == ("test", "mote_b16.ckpt", None, None)
    with pytest.raises(ConfigError, match=r"checkpoint is 'x.ckpt' with trains: true"):
        MethodConfig(["mote.yaml"], checkpoint="x.ckpt")
