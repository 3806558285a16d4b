"""Records, scores and bands that anybody may have written: every command succeeds or says in one line what is wrong."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from tests.results.fakes import CLASSES, edited, store
from tests.results.test_verify import written
from vlbench.cli import results
from vlbench.errors import DataError, VlbenchError
from vlbench.results.pairs import digest, predictions_path
from vlbench.results.record import Record
from vlbench.results.regression import Expectation, measure
from vlbench.results.stored import StoredEvaluation
from vlbench.results.verify import verify

EXPECTED = Path(__file__).parents[2] / "benchmarks" / "expected" / "smoke.json"

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 200), st.sampled_from([0, 2**31, 2**63 - 1, -(2**63), 10**30, 10**400]),
    st.floats(), st.sampled_from([1e18, 1e300, 5e-324, -0.0]), st.text(max_size=5),
    st.sampled_from(["", "0x0", "1x1", "-1x2", "٣x1", "all", "last", "\ud800", "\0", "\x1b[2J", "[red]", "a\nb"]),
    st.lists(st.integers(0, 3) | st.text(max_size=2), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3) | st.none(), max_size=2),
)  # fmt: skip


def places(value, path=()):
    """Paths of everything below a JSON value."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


def mutated_json(draw, text):
    """A JSON text with one to three values replaced, removed or added, or with other bytes."""
    values = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        *outer, key = draw(st.sampled_from(sorted(places(values), key=str)))
        inner = values
        for step in outer:
            inner = inner[step]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if kind == "remove" and len(values) > 1:
            del inner[key]
        elif kind == "add" and isinstance(inner, dict):
            inner[draw(st.text(max_size=3))] = draw(JUNK)
        else:
            inner[key] = draw(JUNK)
    text = json.dumps(values)
    kind = draw(st.sampled_from(["as it is"] * 4 + ["twice", "cut", "bytes", "nested", "empty", "no object"]))
    if kind == "twice":
        return text.replace("{", '{"metrics": {}, "metrics": {}, ', 1).encode()
    if kind == "cut":
        return text[: draw(st.integers(0, len(text)))].encode()
    if kind == "bytes":
        return mutated_bytes(draw, text.encode())
    if kind == "nested":
        return b"[" * 100_000
    return {
        "as it is": text.encode(),
        "empty": b"",
        "no object": draw(st.sampled_from([b"[]", b"3", b'"x"', b"null"])),
    }[kind]


def mutated_bytes(draw, content):
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        content[draw(st.integers(0, min(len(content), 4000) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


def mutated_scores(draw, content):
    """A file of scores with a tensor of other values, type or shape, or without it, other metadata or other bytes."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors, metadata = dict(load(content)), header["__metadata__"]
    kind = draw(st.sampled_from(["values", "type", "shape", "missing", "more", "metadata", "none", "bytes", "cut"]))
    name = draw(st.sampled_from(sorted(tensors)))
    if kind == "values":
        junk = st.sampled_from([-1, 4, 2**62] if name == "labels" else [np.nan, np.inf, -np.inf, 3e38, 0.0])
        tensors[name].flat[draw(st.integers(0, tensors[name].size - 1))] = draw(junk)
    elif kind == "type":
        tensors[name] = tensors[name].astype(draw(st.sampled_from(["i4", "f8", "f2", "u1", "?"])))
    elif kind == "shape":
        shapes = [(-1,), (1, -1), (*tensors[name].shape, 1)]
        tensors[name] = draw(
            st.sampled_from([tensors[name].reshape(draw(st.sampled_from(shapes))), tensors[name][:-1]])
        )
    elif kind == "missing":
        del tensors[name]
    elif kind == "more":
        tensors["moon"] = np.zeros(3, np.float32)
    elif kind == "metadata":
        key = draw(st.sampled_from([*sorted(metadata), "moon"]))
        text = st.sampled_from(
            ["", "{", "null", "[1]", '{"lost.mp4": 9}', '{"lost.mp4": "x"}', '{"other.mp4": 0}', "a\nb"]
        )
        metadata = (
            {**metadata, key: draw(text)} if draw(st.booleans()) else {k: v for k, v in metadata.items() if k != key}
        )
    if kind in ("bytes", "cut"):
        return mutated_bytes(draw, content) if kind == "bytes" else content[: draw(st.integers(0, len(content)))]
    return save(tensors, metadata=None if kind == "none" else metadata)


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Two evaluations, one of them with everything that a record may say."""
    folder = tmp_path_factory.mktemp("valid")
    written(folder, "run")
    random = np.random.default_rng(1)
    store(
        folder, "other", random.normal(size=(39, 4)), random.integers(0, 4, 39), failures={"lost.mp4": 2}, method="mote"
    )
    (folder / "classes.txt").write_text("\n".join(CLASSES[:2]))
    return folder


COMMANDS = {
    "leaderboard": lambda out: results.print_leaderboard(
        [out], out / "b.csv", out / "b.html", out / "b.md", out / "b.tex", allow_dirty=True, allow_mixed=True
    ),
    "report": lambda out: results.report("run", out, out / "classes.csv", out / "confusion.csv", out / "r.html"),
    "compare": lambda out: results.compare("run", "other", out, draws=10),
    "rescore": lambda out: results.rescore("run", classes=out / "classes.txt", folder=out),
    "rescore --half": lambda out: results.rescore("run", half=True, folder=out),
    "verify": lambda out: results.verify([out]),
    "regress": lambda out: measure(StoredEvaluation.load("run", out)),
}


@contextmanager
def one_line():
    """Success, or a `VlbenchError` of one line; everything else is an error of the test."""
    try:
        yield
    except VlbenchError as error:
        text = str(error)
    else:
        return
    assert "\n" not in text, text
    assert len(text) < 1500
    text.encode()


def check(draw, valid):
    with TemporaryDirectory() as name:
        folder = Path(name) / "results"
        shutil.copytree(valid, folder)
        path = folder / "records" / "run.json"
        scores = predictions_path(path)
        what = draw(st.sampled_from(["record", "scores", "both"]))
        if what != "record":
            scores.write_bytes(mutated_scores(draw, scores.read_bytes()))
        if what != "scores":
            path.write_bytes(mutated_json(draw, path.read_text()))
        if what != "record" and draw(st.integers(0, 3)):  # most changes of scores would end at the digest
            try:
                values = json.loads(path.read_bytes())
                values["predictions"] = digest(scores.read_bytes())
                path.write_text(json.dumps(values))
            except (ValueError, TypeError, RecursionError):
                pass
        for command in COMMANDS.values():
            with one_line():
                command(folder)
        for finding in verify([folder]).findings:
            assert "\n" not in str(finding)
        with one_line():
            bands = Path(name) / "bands.json"
            bands.write_bytes(mutated_json(draw, EXPECTED.read_text()))
            Expectation.read(bands).compare({})


# Nothing is shrunk: a failing case is written down by its draws, and running the commands on others takes minutes.
OPTIONS = {
    "deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True,
    "phases": [Phase.generate],
}  # fmt: skip


@pytest.mark.usefixtures("untraced")
@settings(max_examples=200, **OPTIONS)
@given(data=st.data())
def test_two_hundred_damaged_records_end_in_one_line(valid, data):
    check(data.draw, valid)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, **OPTIONS)
@given(data=st.data())
def test_ten_thousand_damaged_records_end_in_one_line(valid, data):
    check(data.draw, valid)


@pytest.mark.quick
def test_what_is_mutated_is_valid_at_first(valid):
    for command in COMMANDS.values():
        assert command(valid) in (0, measure(StoredEvaluation.load("run", valid)))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("identity",), None, "identity is None; allowed: an object"),
        (("identity", "seed"), True, "identity.seed is True; allowed: an integer"),
        (("identity", "seed"), "0", "identity.seed is '0'; allowed: an integer"),
        (("identity", "train", "shots"), "8", "identity.train.shots is '8'; allowed: an integer or null"),
        (("identity", "train", "shots"), 0, "Subset.shots is 0"),
        (("identity", "test", "classes"), "few", 'identity.test.classes is \'few\'; allowed: "all", "base", "novel"'),
        (("identity", "selection"), ["last"], "identity.selection is ['last']; allowed: "),
        (("identity", "views"), "1x", "identity.views is '1x'; allowed: clips x crops"),
        (("identity", "frames"), 0, "identity.frames is 0; allowed: 1 or more"),
        (("identity", "moon"), 1, "identity.moon is no field"),
        (("identity", "a\nb"), 1, "identity.a\\nb is no field"),
        (("metrics", "a\nb"), "1", "metrics.a\\nb is '1'; allowed: a number"),
        (("metrics", "top1"), None, "metrics.top1 is None; allowed: a number"),
        (("metrics", "top1"), 101, "metrics.top1 is 101; allowed: 0 to 100"),
        (("metrics",), {"top1": 1.0}, "metrics.top5 is missing"),
        (("metrics", "top1"), 10**400, "it holds the number '1000"),
        (("metrics", "top1"), float("nan"), "it holds the number NaN"),
        (("metrics", "top1"), float("inf"), "it holds the number Infinity"),
        (("evaluated",), -1, "the manifest has 40"),
        (("failures",), ["lost.mp4"], "failures is ['lost.mp4']; allowed: an object"),
        (("failures", "lost.mp4"), 3, "failures.lost.mp4 is 3; allowed: a string"),
        (("details", "classes"), [1], "details.classes[0] is 1; allowed: a string"),
        (("details", "trainable_params"), 1.5, "details.trainable_params is 1.5; allowed: an integer or null"),
        (("details", "training"), {"steps": "9"}, "details.training.steps is '9'"),
        (("schema_version",), True, "schema_version is True"),
        (("predictions",), 3, "predictions is 3; allowed: a string or null"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path, keys, value, said):
    path = written(tmp_path)
    edited(path, *keys, value=value)
    with pytest.raises(DataError) as refused:
        Record.read(path)
    assert str(refused.value).startswith(f"{path} is not a record of vlbench: ")
    assert said in str(refused.value)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is not JSON in line 1, column 1"),
        (b"\xff{}", "it is not UTF-8 from byte 0 on"),
        (b'{"a": 1, "a": 2}', "the field 'a' is there twice"),
        (b'{"schema_version": 2, "x": 1e999}', "it holds the number '1e999'"),
        (b'{"schema_version": 2, "x": "\\ud800"}', "half a pair of UTF-16"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "it holds []; allowed: an object"),
    ],
)
def test_text_that_is_no_record_is_named(tmp_path, content, said):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        Record.read(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)
