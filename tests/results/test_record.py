import json
from dataclasses import replace

import pytest

from vlbench.datasets.specs import Subset
from vlbench.errors import DataError
from vlbench.results.details import Details
from vlbench.results.leaderboard import rows
from vlbench.results.pairs import read_records
from vlbench.results.record import Identity, Record

pytestmark = pytest.mark.quick


def record(top1=50.0, *, method="msta", shots=8, seed=0, dataset="ucf101/words", **details):
    train = Subset("all", shots, seed=seed) if shots != 0 else None
    identity = Identity(
        method=method, backbone="ViT-B-16-quickgelu:openai", weights=f"w{seed}" if train else None, dataset=dataset,
        train_dataset=dataset if train else None, train=train,
        test=Subset(), views="1x1", frames=8,
        protocol="few_shot@1", seed=seed, selection="last", settings="5e77",
        training_settings="7a1e" if train else None,
    )  # fmt: skip
    metrics = {"top1": top1, "top5": 90.0, "mean_per_class": top1}
    return Record(
        identity, metrics, expected=10, evaluated=9, failures={"x.avi": "empty"}, details=Details.from_dict(details)
    )


def test_a_record_reads_back_what_was_written(tmp_path):
    path = record(trainable_params=7).write(tmp_path)
    assert Record.read(path) == record(trainable_params=7)
    assert path.name == f"{record().name}.json"


def test_names_differ_with_the_identity_and_only_with_it():
    assert record(50.0).name == record(60.0).name
    assert len({record(seed=s, shots=k).name for s in range(3) for k in (2, 8, None)}) == 9


def test_a_count_that_differs_from_the_manifest_is_refused():
    values = record().__dict__ | {"expected": 11}
    with pytest.raises(DataError, match="9 videos evaluated and 1 unreadable, but the manifest has 11"):
        Record(**values)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": 99}'])
def test_damaged_records_name_the_file(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"r\.json"):
        Record.read(path)


def test_what_a_newer_version_says_is_kept(tmp_path):
    made = record(trainable_params=7, moon="full", training={"steps": 9, "seconds": 1.5, "processes": 2, "epochs": 3})
    read = Record.read(made.write(tmp_path))
    assert read.details.others == {"moon": "full"}
    stored = json.loads(read.write(tmp_path, "again").read_text())["details"]
    assert (stored["moon"], stored["training"]["epochs"], stored["trainable_params"]) == ("full", 3, 7)


def test_what_a_record_does_not_say_is_not_known(tmp_path):
    details = Record.read(record(training={"steps": 9}).write(tmp_path)).details
    assert (details.training.steps, details.training.seconds, details.training.processes) == (9, None, None)
    assert (details.features_depend_on_classes, details.git_commit, details.classes) == (None, None, ())
    assert Record.read(record(training={}).write(tmp_path)).details.training is None


@pytest.mark.parametrize(
    ("key", "value"), [("classes", [1]), ("classes", "jump"), ("deviations", []), ("steps", "9"), ("seconds", "long")]
)
def test_details_of_another_type_name_the_file(tmp_path, key, value):
    path = record().write(tmp_path)
    values = json.loads(path.read_text())
    values["details"] |= {"training": {key: value}} if key == "steps" else {key: value}
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"\.json"):
        Record.read(path)


def test_only_records_are_read(tmp_path):
    record().write(tmp_path / "a" / "records")
    (tmp_path / "a" / "stages").mkdir()
    (tmp_path / "a" / "stages" / "other.json").write_text(json.dumps({"not": "a record"}))
    assert list(read_records([tmp_path])) == [record()]
    with pytest.raises(DataError, match="not a folder"):
        list(read_records([tmp_path / "b"]))


def test_rows_average_seeds_and_order_best_first():
    records = [
        record(60, seed=1),
        record(50, seed=0),
        record(70, method="mote"),
        record(30, method="zero_shot", shots=0),
        record(40, shots=2),
        record(80, shots=None),
    ]
    table = rows(records)
    assert [(row.shots, row.method) for row in table] == [
        (0, "zero_shot"), (2, "msta"), (8, "mote"), (8, "msta"), ("all", "msta"),
    ]  # fmt: skip
    msta = table[3]
    assert (msta.top1, msta.top1_std, msta.runs) == (55.0, 5.0, 2)


def test_rows_do_not_depend_on_the_order_of_records():
    records = [record(seed=s, shots=k, method=m) for s in range(2) for k in (2, 8) for m in ("mote", "msta")]
    assert rows(records) == rows(records[::-1])


def test_settings_that_differ_are_not_averaged():
    scaled = record(70, deviations={"scale": 1.0})
    scaled = replace(scaled, identity=replace(scaled.identity, settings="5ca1e"))
    table = rows([record(50), scaled, record(90, dataset="ucf101/camel")])
    assert sorted(row.top1 for row in table) == [50.0, 70.0, 90.0]
    assert {row.deviations for row in table} == {"", "scale=1.0"}


@pytest.mark.parametrize("dataset", ["../../x", "/etc/passwd", "a\0b", "a\nb", "é" * 300, "a/b"])
def test_a_record_of_a_dataset_of_any_name_stays_in_its_folder(tmp_path, dataset):
    made = record()
    made = replace(made, identity=replace(made.identity, dataset=dataset))
    path = made.write(tmp_path / "records")
    assert path.parent == tmp_path / "records"
    assert list(path.parent.iterdir()) == [path]
    assert path.name.isprintable()
    assert Record.read(path).identity.dataset == dataset
