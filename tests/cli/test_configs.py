from inspect import signature

import pytest
import yaml

import vlbench.methods
from vlbench.backbones.catalogue import check_weights
from vlbench.cli.configs import config_names, find_config, resolve_arguments
from vlbench.cli.main import main
from vlbench.cli.methods import build
from vlbench.cli.registry import COMMANDS
from vlbench.errors import ConfigError
from vlbench.methods import MSTA, MoTE, VideoTextMethod
from vlbench.methods.head_only.base import HeadOnly


def test_a_config_is_found_by_name_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = find_config("msta_fewshot.yaml")
    assert path.is_absolute()
    assert path.is_file()
    assert find_config("data/synthetic") == path.parent / "data" / "synthetic.yaml"
    assert find_config("demo.yaml", below="suite") == path.parent / "suite" / "demo.yaml"


def test_the_path_given_wins_then_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    (own / "msta_fewshot.yaml").write_text("{}")
    monkeypatch.setenv("VLBENCH_CONFIGS", str(own))
    assert find_config("msta_fewshot.yaml") == own / "msta_fewshot.yaml"
    assert find_config("mote_fewshot.yaml").is_file()
    (tmp_path / "msta_fewshot.yaml").write_text("{}")
    assert find_config("msta_fewshot.yaml") == tmp_path / "msta_fewshot.yaml"


@pytest.mark.parametrize(
    ("wrong", "right"), [("msta_fewshto.yaml", "msta_fewshot.yaml"), ("data/syntetic.yaml", "data/synthetic.yaml")]
)
def test_a_misspelt_name_gets_a_suggestion(wrong, right):
    with pytest.raises(ConfigError, match=f"did you mean .*{right}"):
        find_config(wrong)


def test_a_name_like_no_other_lists_all():
    with pytest.raises(ConfigError, match=r"known: .*msta_\*\.yaml"):
        find_config("qqqqqqqqqq")


def test_only_config_values_are_resolved():
    path = str(find_config("zero_shot.yaml"))
    given = ["test", "--config", "zero_shot.yaml", "--config=zero_shot.yaml", "--data.root", "zero_shot.yaml"]
    assert resolve_arguments(given) == ["test", "--config", path, f"--config={path}", "--data.root", "zero_shot.yaml"]


def test_names_are_relative_and_unique():
    names = config_names()
    assert len(set(names)) == len(names)
    assert {"msta_fewshot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "suite/demo.yaml"} <= set(names)


BACKBONES = [name for name in config_names() if name.startswith("backbone/") and "tiny" not in name]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_built_without_weights_and_its_tag_exists(name):
    options = yaml.safe_load(find_config(name).read_text())["model"]["init_args"]["backbone"]
    if options["class_path"] == "OpenCLIP":
        check_weights(**options["init_args"])
    backbone = build(["zero_shot.yaml", name]).backbone
    assert backbone.identity.name == options["init_args"]["model"]
    assert backbone.identity.pretrained is None


def test_the_suite_of_the_field_has_every_method(tmp_path, capsys):
    assert main(["run", "--suite", "field.yaml", "--out", str(tmp_path), "--dry_run"]) == 0
    stages = capsys.readouterr().out.splitlines()
    commands = [line for line in stages if "vlbench fit" in line or "vlbench test" in line]
    assert f"0 of {len(commands)} stages done, {len(commands)} to do" in stages
    # No overlay names the backbone, as a network is none that the tiny CLIP could stand in for.
    assert all("backbone/tiny.yaml" in line or "field/x3d.yaml" in line for line in commands)
    for name in vlbench.methods.__all__:
        method = getattr(vlbench.methods, name)
        if method is not VideoTextMethod and not issubclass(method, HeadOnly):  # which suite/bank_demo.yaml has
            tests = [line for line in commands if "vlbench test" in line and f"-{method.name}-" in line]
            opens = method.opens_vocabulary or "classifier" in signature(method).parameters  # by texts
            assert len(tests) == (4 if opens else 2), method.name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backbone", ["siglip2_b16", "pe_b16"])
@pytest.mark.parametrize(("recipe", "kind"), [("msta_fewshot", MSTA), ("mote_fewshot", MoTE)])
def test_recipes_compose_with_backbones_of_other_families(recipe, kind, backbone):
    method = build([f"{recipe}.yaml", f"backbone/{backbone}.yaml"])
    assert type(method) is kind
    assert method.backbone.identity.name in ("ViT-B-16-SigLIP2", "PE-Core-B-16")
    trained = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    if kind is MSTA:
        assert len(method.adapters) == 5
        assert all(name.startswith("adapters.") for name in trained)
    else:
        assert {name for name, _ in method.backbone.visual.named_parameters(prefix="backbone.clip.visual")} <= trained


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if "config" in command.options and not command.lightning]
)
def test_config_may_be_given_several_times(name):
    """And once with several names; the default is no list that a parser adds to."""
    command = COMMANDS[name]
    parser = command.parser()
    needed = [option for action in parser._actions if action.required for option in action.option_strings[:1]]
    words = [*("a.mp4" for _ in command.positional), *(part for option in needed for part in (option, "x"))]
    for _ in range(2):
        config = parser.parse_args([*words, "--config", "b", "--config", "c", "d"]).config
        assert config[-3:] == ["b", "c", "d"]
        assert len(config) == 3 + ("--config" in needed)
    if "--config" not in needed:
        assert [*parser.parse_args(words).config] == []


@pytest.mark.parametrize(
    "option", ["data.train.shots", "data.augmentation.flip", "data.loading.effective_batch", "data.class_list"]
)
@pytest.mark.parametrize("null", ["null", "~"])
def test_null_reaches_options_at_every_depth(option, null, capsys):
    """A recipe's few-shot is turned off by it."""
    overlays = ["--config", "data/synthetic.yaml", "--config", "backbone/tiny.yaml"]
    assert main(["fit", "--config", "msta_fewshot.yaml", *overlays, f"--{option}={null}", "--print_config"]) == 0
    value = yaml.safe_load(capsys.readouterr().out)
    value = {**value["data"], **value["data"].get("init_args", {})}
    for part in option.split(".")[1:]:
        value = value[part]
    assert value is None
