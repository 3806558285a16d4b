"""YAML that says what nobody means."""

import subprocess
import sys
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vlbench.cli.main import main
from vlbench.errors import ConfigError
from vlbench.yaml_files import check_yaml, parse_yaml, read_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)

REFUSED = [
    ("trainer:\n  max_epochs: 1\n  devices: 1\n  max_epochs: 2\n", "line 4: max_epochs is there already, in line 2"),
    ("model: {lr: 1}\ndata: {}\nmodel: {lr: 2}\n", "line 3: model is there already, in line 1"),
    ("a: [{x: 1, y: 2, x: 3}]", "line 1: x is there already"),
    (LAUGHS, "line 6: this is "),
    ("a: &a [1, *a]", "line 1: a value contains itself"),
    ("a: &a {b: *a}", "contains itself"),
    ("[" * 5000, "nested too deeply"),
]


@pytest.mark.quick
@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_nobody_means_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    if "deeply" not in message:  # which the other parser cannot read either
        with pytest.raises(ConfigError, match=message):
            check_yaml(text, "an option")
    assert time.process_time() - started < 30  # the aliases stand for 9 to the power of 11 values


@pytest.mark.quick
def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(f"a: {'x' * 1_000_001}")
    with pytest.raises(ConfigError, match=r"1,000,004 bytes; allowed: 1,000,000"):
        read_yaml(path)
    with pytest.raises(ConfigError, match="allowed: 1,000,000"):
        check_yaml(path.read_text(), "an option")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: &a {x: 1}\nb: *a\nc: {<<: *a, x: 2}\n", {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 2}}),
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
        ("- 1e-3\n- null\n", ["1e-3", None]),
    ],
)
def test_what_yaml_means_stays(text, value):
    assert parse_yaml(text, "own.yaml") == value == yaml.safe_load(text)
    check_yaml(text, "own.yaml")


@pytest.mark.quick
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_yaml_writes_is_read_as_it_was(value):
    assert parse_yaml(yaml.safe_dump(value), "own.yaml") == value


@pytest.mark.quick
@pytest.mark.parametrize(
    "text", ["a: [", "a: 2026-13-45", "? [1, 2]\n: 3", "!!python/object/apply:os.getcwd []", "\x00"]
)
def test_what_is_no_yaml_is_one_sentence(text):
    with pytest.raises(ConfigError, match="is not YAML"):
        parse_yaml(text, "own.yaml")


@pytest.mark.parametrize("text", [text for text, _ in REFUSED[:5]])
def test_commands_refuse_it_in_suites_and_configurations(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    for words in (["run", "--suite", str(path), "--out", str(tmp_path / "out")], ["fit", "--config", str(path)]):
        ended = subprocess.run(
            [sys.executable, "-m", "vlbench", *words], capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"vlbench: error: {path}, line")
        assert len(ended.stderr.splitlines()) == 1


def test_a_file_that_an_option_names_is_refused_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    path = tmp_path / "data.yaml"
    path.write_text("class_path: SyntheticActionsDataModule\ninit_args:\n  frames: 4\n  frames: 8\n")
    assert main(["test", "--config", "zero_shot.yaml", "--config", "backbone/tiny.yaml", f"--data={path}"]) == 2
    assert "line 4: frames is there already, in line 3" in capsys.readouterr().err
