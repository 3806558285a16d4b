"""What every dataset that is read from official archives has in common, on small copies of them."""

import pytest

from tests.official import OFFICIAL
from vlbench.datasets import DATASETS
from vlbench.datasets.named_by_file import NamedByFile
from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError, DataError
from vlbench.tools import doctor

BY_FOLDER = {cls.folder: cls for cls in DATASETS.values()}
NAMED_BY_FILE = [folder for folder in OFFICIAL if issubclass(BY_FOLDER[folder], NamedByFile)]


@pytest.fixture(params=OFFICIAL)
def official(request, tmp_path):
    OFFICIAL[request.param](tmp_path, made=False)
    return BY_FOLDER[request.param](root=str(tmp_path))


def test_training_and_test_videos_are_listed_below_the_root(official):
    for part in ("train", "test"):
        videos = official.videos(part)
        assert len(videos) > 1
        assert len({video.id for video in videos}) == len({video.path for video in videos}) == len(videos)
        assert all(video.path.is_relative_to(official.root) for video in videos)
        assert any(video.path.exists() for video in videos)
    assert official.items("validation", 1) == []
    official.check_disjoint()


def test_a_dataset_that_is_not_there_says_where_it_comes_from(official, tmp_path):
    source = official.facts.source.split(" (")[0]
    absent = type(official)(root=str(tmp_path / "nowhere"))
    for part in ("train", "test"):
        with pytest.raises(DataError, match="does not exist") as error:
            absent.videos(part)
        assert source in str(error.value)
        assert "--data.root DIR" in str(error.value)


def test_there_are_no_other_splits(official):
    with pytest.raises(ConfigError, match="official splits; split is 5"):
        type(official)(root=str(official.root), test=Subset(split=5)).videos("test")


@pytest.mark.parametrize("folder", NAMED_BY_FILE)
def test_without_the_file_of_the_classes_only_their_number_is_known(folder, tmp_path):
    dataset = BY_FOLDER[folder](root=str(tmp_path))
    assert dataset.facts.num_classes == dataset.facts.class_count > 0
    assert dataset.label
    with pytest.raises(DataError, match=f"{dataset.facts.names_file}, which names the classes, does not exist"):
        dataset.test_classes  # noqa: B018


@pytest.mark.parametrize("folder", NAMED_BY_FILE)
def test_names_of_the_file_are_in_the_digest(folder, tmp_path):
    OFFICIAL[folder](tmp_path, made=False)
    before, other = BY_FOLDER[folder](root=str(tmp_path)), BY_FOLDER[folder](root=str(tmp_path))
    assert len(before.spec.class_names) == before.facts.class_count == before.spec.num_classes
    assert before.content("test") == before.content("train")
    path = other.names_path
    word = before.spec.class_names[-1].split()[0]
    path.write_text(path.read_text().replace(word, f"{word}x"))
    assert other.content("test") != before.content("test")


@pytest.mark.parametrize("folder", NAMED_BY_FILE)
def test_a_file_of_another_number_of_classes_is_refused(folder, tmp_path, monkeypatch):
    OFFICIAL[folder](tmp_path, made=False)
    dataset = BY_FOLDER[folder](root=str(tmp_path))
    names = dataset.spec.class_names
    for wrong, message in [
        (names[:-1], rf"names {len(names) - 1} classes; .* has {len(names)}: fetch the official"),
        ((), "names 0 classes"),
        ((*names[:-1], names[0]), f"class name {names[0]!r} stands for labels 0 and {len(names) - 1}"),
        ((names[0], " ", *names[2:]), "class 1 has no name"),
    ]:
        monkeypatch.setattr(type(dataset), "read_names", lambda self, path, wrong=wrong: wrong)
        with pytest.raises(DataError, match=message) as error:
            BY_FOLDER[folder](root=str(tmp_path)).spec  # noqa: B018
        assert str(dataset.names_path) in str(error.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Small copies with real videos, one for all tests, which change nothing in them."""
    roots = {folder: tmp_path_factory.mktemp(folder) for folder in OFFICIAL}
    for folder, write in OFFICIAL.items():
        write(roots[folder])
    return roots


@pytest.mark.parametrize("folder", OFFICIAL)
def test_the_doctor_finds_what_is_missing_and_counts(folder, made, own_cache):
    dataset = BY_FOLDER[folder](root=str(made[folder]))
    report = doctor.check(dataset, decode=True, workers=0, progress=False)
    listed = {video.id for part in ("train", "test") for video in dataset.videos(part)}
    missing = {video.id for part in ("train", "test") for video in dataset.videos(part) if not video.path.exists()}
    codes = {finding.code for finding in report.findings if finding.severity == "error"}
    assert {finding.where for finding in report.findings if finding.code == "missing"} == missing
    assert codes <= {"count", "missing"}
    counted = [finding.where for finding in report.findings if finding.code == "count"]
    assert counted == (["train", "test"] if dataset.spec.counts else [])
    if dataset.spec.splits == 1:
        assert report.videos == len(listed)


@pytest.mark.parametrize(
    ("folder", "gone", "where", "message"),
    [
        ("kinetics700", "annotations/train.csv", "train", "train.csv does not exist"),
        ("kinetics700", "annotations/val.csv", "class names", "train.csv names 2 classes"),
        ("moments", "validationSet.csv", "test", "validationSet.csv does not exist"),
        ("moments", "moments_categories.txt", "class names", "which names the classes, does not exist"),
        ("diving48", "Diving48_V2_test.json", "test", "Diving48_V2_test.json does not exist"),
        ("diving48", "Diving48_vocab.json", "class names", "which names the classes, does not exist"),
        ("jester", "jester-v1-validation.csv", "test", "jester-v1-validation.csv does not exist"),
        ("charades", "Charades/Charades_v1_test.csv", "test", "Charades_v1_test.csv does not exist"),
        ("charades", "Charades/Charades_v1_classes.txt", "class names", "which names the classes, does not exist"),
        ("breakfast", "BreakfastII_15fps_qvga_sync", "test split 4", "BreakfastII_15fps_qvga_sync does not exist"),
    ],
)
def test_the_doctor_reports_a_list_that_is_not_there(folder, gone, where, message, tmp_path, own_cache):
    OFFICIAL[folder](tmp_path, made=False)
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    report = doctor.check(BY_FOLDER[folder](root=str(tmp_path)), workers=0, progress=False)
    refused = {finding.where: finding.text for finding in report.findings if finding.code == "list"}
    assert message in refused[where]
    assert report.exit_code == 1
