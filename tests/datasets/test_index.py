import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vlbench.datasets.lists.index import FileIndex, Stamp

DAY_NS = 86_400 * 10**9


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def root(tmp_path):
    for name in ("a/one.mp4", "a/two.mp4", "b/deep/three.mp4", ".hidden/four.mp4", "b/._five.mp4", "list.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def settle(monkeypatch):
    """As if it were tomorrow: folders that just changed are not trusted."""
    tomorrow = time.time_ns() + DAY_NS
    monkeypatch.setattr(time, "time_ns", lambda: tomorrow)


def remember(root, path, value=7):
    index = FileIndex(root)
    index.put(path, "frames", value, stamp=Stamp.of(path))
    index.save()


def files(index, folder):
    return sorted(current / name for current, names in index.walk(folder) for name in names)


def relative(root, paths):
    return [path.relative_to(root).as_posix() for path in paths]


def test_a_fact_is_known_in_the_next_run(root):
    path = root / "a" / "one.mp4"
    remember(root, path)
    assert FileIndex(root).get(path, "frames") == 7
    assert FileIndex(root).get(path, "digest") is None
    assert FileIndex(root).get(root / "a" / "two.mp4", "frames") is None


def test_an_index_belongs_to_one_root(root):
    remember(root, root / "a" / "one.mp4")
    assert FileIndex(root / "a").get(root / "a" / "one.mp4", "frames") is None


def another_size(path):
    status = path.stat()
    path.write_text("x" * (status.st_size + 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def another_time(path):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [another_size, another_time])
def test_a_changed_file_loses_its_facts(root, change):
    path = root / "a" / "one.mp4"
    remember(root, path)
    change(path)
    assert FileIndex(root).get(path, "frames") is None
    remember(root, path, 8)
    assert FileIndex(root).get(path, "frames") == 8


def test_nothing_is_known_about_a_file_that_is_gone(root):
    path = root / "a" / "one.mp4"
    remember(root, path)
    path.unlink()
    assert FileIndex(root).get(path, "frames") is None


def test_facts_about_a_file_that_changed_while_it_was_read_are_not_kept(root):
    path = root / "a" / "one.mp4"
    index = FileIndex(root)
    before = Stamp.of(path)
    another_size(path)
    index.put(path, "frames", 7, stamp=before)
    assert index.get(path, "frames") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": 1}', b'{"version": 999, "files": {}, "folders": {}}']
)
def test_a_damaged_index_is_made_anew(root, content):
    path = root / "a" / "one.mp4"
    remember(root, path)
    index = FileIndex(root)
    index.file.write_bytes(content)
    assert FileIndex(root).get(path, "frames") is None
    remember(root, path)
    assert FileIndex(root).get(path, "frames") == 7


def test_writers_at_the_same_time_leave_a_whole_index(root):
    paths = [root / "a" / "one.mp4", root / "a" / "two.mp4"] * 20
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: remember(root, path), paths))
    index = FileIndex(root)
    assert set(json.loads(index.file.read_bytes())["files"]) & {"a/one.mp4", "a/two.mp4"}
    assert 7 in [index.get(path, "frames") for path in paths]
    assert list(index.file.parent.iterdir()) == [index.file]


def test_files_are_listed_without_hidden_ones(root):
    assert relative(root, files(FileIndex(root), root)) == ["a/one.mp4", "a/two.mp4", "b/deep/three.mp4", "list.txt"]


def test_folders_that_have_not_changed_are_not_read_again(root, monkeypatch):
    settle(monkeypatch)
    index = FileIndex(root)
    first = files(index, root)
    index.save()
    read = []
    scan = os.scandir
    monkeypatch.setattr("os.scandir", lambda path: read.append(path) or scan(path))
    assert files(FileIndex(root), root) == first
    assert read == []
    (root / "b" / "deep" / "new.mp4").write_text("new")
    assert "b/deep/new.mp4" in relative(root, files(FileIndex(root), root))
    assert read == [root / "b" / "deep"]


def test_a_folder_that_changed_just_now_is_read_again(root):
    (root / "a" / "new.mp4").write_text("new")
    index = FileIndex(root)
    files(index, root)
    index.save()
    stamp = (root / "a").stat().st_mtime_ns
    (root / "a" / "newer.mp4").write_text("newer")
    os.utime(root / "a", ns=(stamp, stamp))  # within one tick of the file system's clock
    assert "a/newer.mp4" in relative(root, files(FileIndex(root), root))


def test_links_to_folders_are_followed_and_circles_end(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "six.mp4").write_text("six")
    (root / "c").symlink_to(elsewhere)
    (root / "b" / "up").symlink_to(root)
    names = relative(root, files(FileIndex(root), root))
    assert "c/six.mp4" in names
    assert len(names) == 5


def test_a_folder_whose_time_was_set_back_is_read_again(root, monkeypatch):
    before = (root / "a").stat()
    settle(monkeypatch)
    index = FileIndex(root)
    files(index, root)
    index.save()
    (root / "a" / "newer.mp4").write_text("newer")
    os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))  # as tools do that copy a folder with its times
    assert "a/newer.mp4" in relative(root, files(FileIndex(root), root))


def test_a_folder_that_a_link_leads_to_later_is_found(root, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mounted"
    (root / "a" / "disk").symlink_to(elsewhere)
    settle(monkeypatch)
    index = FileIndex(root)
    assert "a/disk" in relative(root, files(index, root))
    index.save()
    elsewhere.mkdir()
    (elsewhere / "six.mp4").write_text("six")
    assert "a/disk/six.mp4" in relative(root, files(FileIndex(root), root))


def test_a_link_to_itself_is_a_file(root):
    (root / "a" / "loop.mp4").symlink_to("loop.mp4")
    assert "a/loop.mp4" in relative(root, files(FileIndex(root), root))
