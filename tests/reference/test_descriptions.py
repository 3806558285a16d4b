"""The published description files."""

import json
import re
import shutil
from pathlib import Path

import pytest

from vlbench.datasets import HMDB51, UCF101, ActivityNet, Kinetics400, Kinetics600, SomethingSomethingV2
from vlbench.datasets.descriptions import read_descriptions
from vlbench.datasets.hmdb51 import LEGACY_NAMES, OFFICIAL_NAMES
from vlbench.datasets.ucf101_names import WORDS
from vlbench.errors import DataError
from vlbench.tools.describe_import import import_descriptions

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "descriptions"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no published descriptions at {FOLDER}")


@pytest.fixture
def read(tmp_path):
    """Reads a dataset's published files under the names that the reader looks for."""

    def under_our_names(dataset, names, number=2):
        for kind in ("spatial", "temporal"):
            shutil.copy(FOLDER / f"{number}_{kind[0]}_description_{dataset}.json", tmp_path / f"{kind}.json")
        return read_descriptions(tmp_path, names)

    return under_our_names


@pytest.mark.parametrize("number", [2, 4, 8])
def test_published_files_are_read(read, number):
    for dataset, names in (("ucf_101", WORDS), ("hmdb", LEGACY_NAMES)):
        descriptions = read(dataset, names, number)
        assert {len(s) for s in descriptions.spatial + descriptions.temporal} == {number}


def test_the_swapped_classes_of_hmdb_are_noticed(read):
    with pytest.raises(DataError) as caught:
        read("hmdb", OFFICIAL_NAMES)
    for label, name in ((20, "kick"), (21, "kick ball"), (44, "sword"), (45, "sword exercise")):
        assert f"key '{label}' ({name}) is about" in str(caught.value)


def test_a_file_of_unequal_numbers_is_refused(read):
    names = tuple(str(label) for label in range(400))
    with pytest.raises(DataError, match="sentences; allowed"):
        read("k400", names, 8)


@pytest.mark.parametrize("dataset", [UCF101, HMDB51, Kinetics400, Kinetics600, SomethingSomethingV2])
@pytest.mark.parametrize("number", [2, 4, 8])
def test_every_published_file_of_whole_datasets_is_imported(tmp_path, dataset, number):
    spec = dataset().spec
    if (spec.name, number) in {("kinetics400", 8), ("k600", 8)}:  # classes with one sentence; no temporal file
        with pytest.raises(DataError, match=r"sentences; allowed: \d, as many as key '0'|No such file"):
            import_descriptions("etl4video", FOLDER, spec.name, spec.class_names, tmp_path / "out", number=number)
        return
    import_descriptions("etl4video", FOLDER, spec.name, spec.class_names, tmp_path / "out", number=number)
    described = read_descriptions(tmp_path / "out", spec.class_names)
    assert {len(each) for each in described.spatial + described.temporal} == {number}


def test_the_swapped_classes_of_hmdb_get_their_sentences(tmp_path):
    whole = json.loads((FOLDER / "2_t_description_hmdb.json").read_text())
    import_descriptions("etl4video", FOLDER, "hmdb51", OFFICIAL_NAMES, tmp_path)
    described = read_descriptions(tmp_path, OFFICIAL_NAMES).temporal
    swapped = {20: 21, 21: 20, 44: 45, 45: 44}
    assert [list(each) for each in described] == [whole[str(swapped.get(label, label))] for label in range(51)]


@pytest.mark.parametrize(
    "dataset", [UCF101, HMDB51, Kinetics400, Kinetics600, SomethingSomethingV2, ActivityNet], ids=lambda d: d.folder
)
def test_no_shipped_sentence_equals_a_published_one(dataset, published):
    described = dataset().spec.descriptions.read()
    shipped = {
        words(sentence) for side in (described.spatial, described.temporal) for each in side for sentence in each
    }
    assert shipped
    assert not shipped & published


@pytest.fixture(scope="module")
def published():
    files = sorted(FOLDER.glob("*.json"))
    assert files
    return {
        words(sentence)
        for file in files
        for sentences in json.loads(file.read_text()).values()
        for sentence in sentences
    }


def words(sentence):
    """The words alone, without the lead-in that the published sentences share."""
    return " ".join(re.findall(r"[a-z]+", sentence.lower().removeprefix("a video about ")))
