"""Records name the lists of their videos."""

import dataclasses
import json

import pytest

from tests.results.test_record import record
from vlbench.results.record import SCHEMA_VERSION, Record, lineage

pytestmark = pytest.mark.quick


def with_lists(train, test):
    made = record()
    return dataclasses.replace(made, identity=dataclasses.replace(made.identity, train_list=train, test_list=test))


def test_lists_are_part_of_the_identity(tmp_path):
    published = with_lists("vifi/train1_few_shot_8 (verified)", "vifi/val1 (verified)")
    altered = with_lists("train1_few_shot_8 (altered, 0123abcd)", "vifi/val1 (verified)")
    own = with_lists("own/8-shot seed 0", "official/split 1")
    assert len({made.name for made in (published, altered, own)}) == 3
    assert Record.read(published.write(tmp_path)) == published


def test_a_record_of_version_1_does_not_know_its_lists(tmp_path):
    path = with_lists("own/8-shot seed 0", "official/split 1").write(tmp_path)
    values = json.loads(path.read_text())
    values["schema_version"] = 1
    del values["identity"]["train_list"], values["identity"]["test_list"]
    path.write_text(json.dumps(values))
    old = Record.read(path)
    assert (old.identity.train_list, old.identity.test_list) == (None, None)
    assert old.schema_version == SCHEMA_VERSION
    assert old == record()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vifi/fs_base_s1_train (verified)", "vifi"),
        ("own/16-shot seed 0", "own"),
        ("official/split 2", "official"),
        ("val1 (altered, 0123abcd)", "val1 (altered, 0123abcd)"),
        (None, ""),
    ],
)
def test_lists_of_one_lineage_may_be_averaged(name, expected):
    assert lineage(name) == expected
