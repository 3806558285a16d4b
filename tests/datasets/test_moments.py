import pytest

from tests.official import moments
from vlbench.datasets.moments import MomentsInTime
from vlbench.errors import DataError


@pytest.fixture
def root(tmp_path):
    moments(tmp_path, made=False)
    return tmp_path


def test_classes_are_in_the_order_of_their_numbers(root):
    data = MomentsInTime(root=str(root))
    assert data.spec.class_names[:2] == ("adult female singing", "eventing000")
    assert [(item.id, item.label) for item in data.videos("train")] == [
        ("training/adult+female+singing/yt-a_1.mp4", 0),
        ("training/eventing000/b.mp4", 1),
    ]
    test = data.videos("test")
    assert [(item.id, item.label) for item in test] == [
        ("validation/eventing002/c.mp4", 3),
        ("validation/eventing000/c.mp4", 1),
        ("validation/eventing001/c.mp4", 2),
    ]
    assert [item.path.is_file() for item in test] == [True, True, False]


def test_each_edition_has_its_number_of_classes_and_videos(tmp_path):
    moments(tmp_path, made=False, classes=339)
    first = MomentsInTime(root=str(tmp_path), variant="mit-339")
    assert len(first.test_classes.names) == 339
    assert first.spec.counts != MomentsInTime().facts.counts
    with pytest.raises(DataError, match=r"names 339 classes; moments/mit-305 has 305.*set data\.variant"):
        MomentsInTime(root=str(tmp_path)).videos("test")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("moments_categories.txt", "clapping\n", r"txt:1: 'clapping'; allowed: the name of a class, a comma"),
        ("moments_categories.txt", "clapping,x\n", r"txt:1: 'clapping,x'; allowed"),
        ("moments_categories.txt", "a,0\nb,0\n", r"txt:2: number 0 was given before"),
        ("moments_categories.txt", "a,0\nb,2\n", "the numbers are not 0 to 1"),
        ("trainingSet.csv", "a.mp4\n", r"csv:1: one field; allowed"),
        ("trainingSet.csv", "a.mp4,flying,1,0\n", r"csv:1: class 'flying'"),
        ("trainingSet.csv", "../a.mp4,eventing000,1,0\n", r"csv:1: path '\.\./a\.mp4'"),
        ("trainingSet.csv", ",eventing000,1,0\n", r"csv:1: path ''; allowed"),
        ("trainingSet.csv", "\n  \n./,eventing000,1,0\n", r"csv:3: path '\./'; allowed"),
        ("trainingSet.csv", "a.mp4,,1,0\n", r"csv:1: class ''"),
        ("trainingSet.csv", "a.mp4,eventing000,1,0\n./a.mp4,eventing000,1,0\n", r"csv:2: 'training/a\.mp4' was listed"),
        ("trainingSet.csv", "a.mp4\r\n", r"csv:1: one field; allowed"),
        ("moments_categories.txt", "a,          \n", r"txt:1: 'a,'; allowed"),
        ("moments_categories.txt", "\n\na,12345678901\n", r"txt:3: 'a,12345678901'; allowed"),
        ("moments_categories.txt", "a,\uff10\n", r"txt:1: 'a,\uff10'; allowed"),
        ("moments_categories.txt", ",0\n", r"txt:1: ',0'; allowed"),
        ("moments_categories.txt", "+,0\n", r"txt:1: '\+,0'; allowed"),
        ("trainingSet.csv", "a.mp4,eventing000,1,0\na.mp4,eventing000,1,0\n", r"csv:2: 'training/a\.mp4' was listed"),
        ("trainingSet.csv", "", "lists no videos"),
    ],
)
def test_bad_lists_name_the_line(root, file, content, message):
    (root / file).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        MomentsInTime(root=str(root)).videos("train")
    assert str(root / file) in str(error.value)


def test_blanks_around_fields_and_blank_lines_do_not_matter(root):
    expected = MomentsInTime(root=str(root)).videos("train")
    numbered = (root / "moments_categories.txt").read_text().replace(",", " ,           ")
    (root / "moments_categories.txt").write_bytes(("\ufeff\n" + numbered).replace("\n", " \r\n").encode())
    listed = (root / "trainingSet.csv").read_text().replace(",", " , ")
    (root / "trainingSet.csv").write_bytes(("\ufeff\n" + listed + "\n , , , \n").replace("\n", "\r\n").encode())
    assert MomentsInTime(root=str(root)).videos("train") == expected
