"""The field's temporal and static classes of Kinetics-400 and Something-Something V2, as `vlbench audit` reads them."""

from pathlib import Path

import pytest

from vlbench.datasets import Kinetics400, SomethingSomethingV2
from vlbench.results.audit import read_subset

SUBSETS = Path(__file__).resolve().parents[3] / "shared" / "subsets"

pytestmark = pytest.mark.skipif(not SUBSETS.is_dir(), reason=f"the published subsets are not at {SUBSETS}")


@pytest.mark.parametrize(
    ("dataset", "files", "counts"),
    [
        (Kinetics400, ("kinetics_400_temporal32_labels.csv", "kinetics_400_static32_labels.csv"), (32, 32)),
        (SomethingSomethingV2, ("ssv2_temporal18_labels.csv", "ssv2_static16_labels.csv"), (18, 16)),
    ],
)
def test_published_subsets_are_classes_of_the_dataset(dataset, files, counts):
    classes = dataset("videos").spec.class_names
    subsets = [read_subset(f"{name}={SUBSETS / name}", classes) for name in files]
    assert [name for name, _ in subsets] == list(files)
    assert tuple(len(names) for _, names in subsets) == counts
    assert all(set(names) <= set(classes) for _, names in subsets)
    assert not set(subsets[0][1]) & set(subsets[1][1])
