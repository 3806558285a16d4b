"""The published description files."""

import shutil
from pathlib import Path

import pytest

from vlbench.datasets.descriptions import read_descriptions
from vlbench.datasets.hmdb51 import LEGACY_NAMES, OFFICIAL_NAMES
from vlbench.datasets.ucf101_names import WORDS
from vlbench.errors import DataError

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
