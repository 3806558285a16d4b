import pytest

from tests.official import breakfast, put
from vlbench.datasets.breakfast import ACTIVITIES, Breakfast
from vlbench.datasets.specs import Subset
from vlbench.errors import DataError

VIDEOS = "BreakfastII_15fps_qvga_sync"


@pytest.fixture
def root(tmp_path):
    breakfast(tmp_path, made=False)
    return tmp_path


def split(root, number):
    subset = Subset(split=number)
    return Breakfast(root=str(root), train=subset, test=subset)


@pytest.mark.parametrize(("number", "person"), [(1, "P03"), (2, "P28"), (3, "P29"), (4, "P54")])
def test_a_split_tests_its_persons_and_trains_on_the_others(root, number, person):
    data = split(root, number)
    test, train = data.videos("test"), data.videos("train")
    assert [item.id for item in test] == [
        f"{person}/cam01/{person}_friedegg.avi",
        f"{person}/stereo/{person}_salat_ch0.avi",
    ]
    assert [data.spec.class_names[item.label] for item in test] == ["fried egg", "salad"]
    assert {item.id[:3] for item in train} == {"P03", "P28", "P29", "P54"} - {person}
    assert len(train) == 6
    assert all(item.path.is_file() for item in [*test, *train])


def test_the_splits_cut_the_persons_into_four():
    # every person of the release, each once
    tested = [person for k in range(4) for person in range(3 + 13 * k, 16 + 13 * k)]
    assert tested == list(range(3, 55))


def test_channel_1_counts_where_there_is_no_channel_0(root):
    (root / VIDEOS / "P03/stereo/P03_salat_ch0.avi").unlink()
    assert split(root, 1).videos("test")[1].path == root / VIDEOS / "P03/stereo/P03_salat_ch1.avi"


def test_other_videos_are_another_dataset(root):
    before = Breakfast(root=str(root)).content("test")
    assert Breakfast(root=str(root)).content("test") == before
    put(root / VIDEOS, "P04/webcam01/P04_tea.avi", made=False)
    assert Breakfast(root=str(root)).content("test") != before


@pytest.mark.parametrize(
    "name",
    [
        "P03_tea.avi",
        "P03/P03_tea.avi",
        "P03/cam01/tea.avi",
        "P03/cam01/P04_tea.avi",
        "P03/cam01/P03_soup.avi",
        "P02/cam01/P02_tea.avi",
        "P55/cam01/P55_tea.avi",
        "P03/cam01/deep/P03_tea.avi",
        "other/cam01/P03_tea.avi",
    ],
)
def test_a_file_that_is_no_video_of_it_is_refused(root, name):
    put(root / VIDEOS, name, made=False)
    with pytest.raises(DataError, match=f"{name}.*is no video of Breakfast; allowed"):
        Breakfast(root=str(root)).videos("test")


def test_a_video_in_two_formats_is_refused(root):
    put(root / VIDEOS, "P03/cam01/P03_friedegg.mp4", made=False)
    with pytest.raises(DataError, match=r"P03_friedegg\.avi.* and .*P03_friedegg\.mp4.* are one video"):
        Breakfast(root=str(root)).videos("test")


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / VIDEOS).mkdir()
    with pytest.raises(DataError, match="holds no video"):
        Breakfast(root=str(tmp_path)).videos("test")


def test_ten_activities_in_alphabetical_order():
    assert len(ACTIVITIES) == 10
    assert list(ACTIVITIES) == sorted(ACTIVITIES)
