import pytest

from vlbench.datasets.kinetics import Kinetics400, Kinetics600
from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError, DataError

HEADER = "label,youtube_id,time_start,time_end,split\n"
LINEAGES = ("vifi", "mote", "open-vclip")


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture(params=[Kinetics400, Kinetics600])
def dataset(request):
    return request.param


@pytest.fixture
def root(tmp_path):
    touch(
        tmp_path,
        "train/archery/aaaaaaaaaaa_000005_000015.mp4",
        "val/bbbbbbbbbbb_000417_000427.mp4",
        "val/ccccccccccc.mkv",
        "val/ccccccccccc.info.json",
        "val/eating_cake/-eeeeeeeeee.webm",
    )
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.csv").write_text(HEADER + "archery,aaaaaaaaaaa,5,15,train\n")
    (tmp_path / "annotations/val.csv").write_text(
        HEADER
        + "zumba,bbbbbbbbbbb,417,427,validate\nyoga,ccccccccccc,0,10,validate\nabseiling,ddddddddddd,1,11,validate\n"
        + "eating cake,-eeeeeeeeee,2,12,validate\n"
    )
    return tmp_path


def test_flat_and_class_folders_with_and_without_times(dataset, root):
    data = dataset(root=str(root))
    (train,) = data.videos("train")
    assert train.path == root / "train/archery/aaaaaaaaaaa_000005_000015.mp4"
    assert data.train_classes.names[train.label] == "archery"
    test = data.videos("test")
    assert [item.path.relative_to(root / "val").as_posix() for item in test] == [
        "bbbbbbbbbbb_000417_000427.mp4",
        "ccccccccccc.mkv",
        "ddddddddddd_000001_000011.mp4",
        "eating_cake/-eeeeeeeeee.webm",
    ]
    assert [data.test_classes.names[item.label] for item in test] == ["zumba", "yoga", "abseiling", "eating cake"]


def test_ids_do_not_depend_on_what_the_files_are_called(dataset, root):
    ids = [item.id for item in dataset(root=str(root)).videos("test")]
    assert ids == [
        "val/bbbbbbbbbbb_000417_000427",
        "val/ccccccccccc_000000_000010",
        "val/ddddddddddd_000001_000011",
        "val/-eeeeeeeeee_000002_000012",
    ]


def test_a_listed_video_that_is_not_there_stays_in_the_manifest(dataset, root):
    absent = dataset(root=str(root)).videos("test")[2]
    assert absent.id == "val/ddddddddddd_000001_000011"
    assert not absent.path.exists()


def test_two_files_of_one_clip_are_refused(dataset, root):
    touch(root, "val/yoga/ccccccccccc.mp4")
    with pytest.raises(DataError, match=r"ccccccccccc\.mkv.*ccccccccccc\.mp4"):
        dataset(root=str(root)).videos("test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "youtube_id,time_start\nx,1\n",
            r"train\.csv:1: the header lacks label, time_end; its columns: youtube_id, time_start;",
        ),
        ("", r"train\.csv:1: the header lacks label, youtube_id, .*; its columns: none;"),
        (HEADER + "flying,x,1,2,train\n", r"train\.csv:2: 'flying' is none of the \d00 classes"),
        (HEADER + "yoga,x,one,2,train\n", r"train\.csv:2: the times are not whole seconds"),
        (HEADER + "yoga, ,1,2,train\n", r"train\.csv:2: the clip has no youtube_id; use the released file"),
        (
            HEADER + "yoga,../../x,1,2,train\n",
            r"video '\.\./\.\./x_000001_000002\.mp4'; allowed: a path below .*/train",
        ),
        (HEADER + "yoga,x\n", r"train\.csv:2: 2 fields where the header has 5"),
        (HEADER + "yoga, or rest,x,1,2,train\n", r"train\.csv:2: 6 fields where the header has 5"),
        (HEADER.replace("split", "label") + "yoga,x,1,2,zumba\n", r"train\.csv:1: the header has 2 columns where one"),
        (HEADER + "yoga,x,1,2,train\nzumba,x,1,2,train\n", r"train\.csv:3: 'x_000001_000002' was listed before"),
    ],
)
def test_bad_annotations_name_the_line(dataset, root, content, message):
    (root / "annotations/train.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        dataset(root=str(root)).videos("train")


def test_missing_folders_are_the_one_message(dataset, tmp_path):
    with pytest.raises(DataError, match="cvdfoundation"):
        dataset(root=str(tmp_path)).videos("train")


@pytest.mark.parametrize(("dataset", "count"), [(Kinetics400, 400), (Kinetics600, 600)])
def test_classes_are_distinct_and_in_alphabetical_order(dataset, count):
    names = dataset().test_classes.names
    assert len(set(names)) == count
    assert list(names) == sorted(names)


def test_the_halves_of_kinetics_400_are_equally_large():
    data = Kinetics400(train=Subset(classes="base"), test=Subset(classes="novel"))
    assert len(data.train_classes.labels) == len(data.test_classes.labels) == 200
    assert not set(data.train_classes.labels) & set(data.test_classes.labels)


# ---- zero-shot on Kinetics-600 ----


def zero_shot(root, variant, split=1, **arguments):
    return Kinetics600(root=str(root), variant=variant, test=Subset(split=split), **arguments)


@pytest.mark.parametrize("variant", LINEAGES)
@pytest.mark.parametrize("split", [1, 2, 3])
def test_zero_shot_classes_are_160_that_kinetics_400_has_not(variant, split):
    classes = zero_shot("nowhere", variant, split).test_classes
    assert len(set(classes.names)) == 160
    assert not set(classes.names) & set(Kinetics400().test_classes.names)
    assert list(classes.labels) == sorted(classes.labels)
    assert classes.names == tuple(classes.all_names[label] for label in classes.labels)


def test_the_variants_have_names_of_their_own():
    labels = [Kinetics600(variant=variant).label for variant in Kinetics600.variants]
    assert labels == ["k600", "k600/vifi", "k600/mote", "k600/open-vclip"]
    assert Kinetics600().label == "k600"


def write_list(root, variant, lines, split=1):
    path = root / "zero_shot" / variant / f"split{split}.txt"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("variant", LINEAGES)
def test_zero_shot_lists_count_within_their_classes(tmp_path, variant):
    clips = [f"{letter * 11}_000001_000011" for letter in "abcd"]
    touch(tmp_path, f"train/{clips[0]}.mp4", f"val/yarn_spinning/{clips[1]}.mp4", "test/ccccccccccc.mp4")
    names = [f"train/{clips[0]}.mp4", f"val/yarn_spinning/{clips[1]}.mp4", f"arguing/{clips[2]}.mp4", f"{clips[3]}.mp4"]
    last = len(zero_shot(tmp_path, variant).test_classes.names) - 1
    write_list(tmp_path, variant, [f"{name} {label}" for name, label in zip(names, [0, last, 2, 0], strict=True)])
    data = zero_shot(tmp_path, variant)
    items = data.videos("test")
    words = [data.test_classes.names[item.label] for item in items]
    assert words == ["acting in play", "yarn spinning", "arguing", "acting in play"]
    assert [item.id for item in items] == [f"train/{clips[0]}", f"val/{clips[1]}", clips[2], clips[3]]
    assert [item.path.is_file() for item in items] == [True, True, True, False]
    assert data.items("train", 1) == data.items("validation", 1) == []


def test_a_list_that_counts_in_another_order_is_refused(tmp_path):
    write_list(tmp_path, "mote", ["arguing/aaaaaaaaaaa_000001_000011.mp4 3"])
    with pytest.raises(DataError, match=r"is listed under 'attending conference', its name says 'arguing'"):
        zero_shot(tmp_path, "mote").videos("test")


def test_a_label_beyond_the_split_is_refused(tmp_path):
    write_list(tmp_path, "vifi", ["train/aaaaaaaaaaa_000001_000011.mp4 160"])
    with pytest.raises(DataError, match=r"split1\.txt:1: label 160 is out of range; allowed: 0 to 159"):
        zero_shot(tmp_path, "vifi").videos("test")


@pytest.mark.parametrize(
    ("variant", "source"), [("vifi", "ViFi-CLIP"), ("mote", "ZMHH-H/MoTE"), ("open-vclip", "Open-VCLIP")]
)
def test_a_missing_list_says_where_it_goes_and_comes_from(tmp_path, variant, source):
    with pytest.raises(DataError, match=rf"(?s)zero_shot.{variant}.split2\.txt does not exist.*{source}"):
        zero_shot(tmp_path, variant, split=2).videos("test")


def test_there_are_three_zero_shot_splits(tmp_path):
    with pytest.raises(ConfigError, match="has 3 official splits; split is 4"):
        zero_shot(tmp_path, "mote", split=4).videos("test")


def test_only_one_test_set_reads_the_published_lists(tmp_path):
    clip = "aaaaaaaaaaa_000001_000011"
    lists = tmp_path / "lists"
    (lists / "k600_splits").mkdir(parents=True)
    (lists / "k600_splits/ZS_split1_K600_eval.txt").write_text(f"val/{clip}.mp4 2\n")
    (item,) = zero_shot(tmp_path, "vifi", splits_dir=str(lists)).videos("test")
    assert (item.id, item.label) == (f"val/{clip}", 2)
    with pytest.raises(ConfigError, match=r"leave data\.splits_dir out"):
        zero_shot(tmp_path, "mote", splits_dir=str(lists)).videos("test")
