"""A backbone and a dataset in mteb: by its interface, and with mteb itself where it is installed."""

import sys
from types import SimpleNamespace

import pytest
import torch

from tests.bank.conftest import CLASSES, write_kitchen
from vlbench.backbones import TinyCLIP
from vlbench.clips.batch import ViewBatch
from vlbench.clips.datamodules import FolderVideosDataModule
from vlbench.clips.decoding import open_video
from vlbench.datasets import FolderVideos
from vlbench.errors import ConfigError
from vlbench.methods import ZeroShot
from vlbench.tools.mteb import MtebEncoder, zero_shot_task


class Decoder:
    """What the encoder uses of torchcodec's decoder."""

    def __init__(self, path):
        self.reader = open_video(path)
        self.metadata = SimpleNamespace(num_frames=self.reader.num_frames)

    def get_frames_at(self, indices):
        return SimpleNamespace(data=self.reader.frames_at(indices))


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    """Nine test videos, all of which can be read."""
    root = write_kitchen(tmp_path_factory.mktemp("mteb") / "kitchen", train=1)
    (root / "test" / "stir" / "0.mp4").write_bytes((root / "test" / "stir" / "1.mp4").read_bytes())
    return root


@pytest.fixture(scope="module")
def expected(kitchen):
    """Test videos, their unit features and their cosines with the classes, as `ZeroShot` has them."""
    data = FolderVideosDataModule(root=str(kitchen), frames=4, num_workers=0, image_size=32)
    items = data.dataset.videos("test")
    method = ZeroShot(TinyCLIP()).eval()
    views = data.test_views(items)
    batch = ViewBatch.collate([views[k] for k in range(len(items))])
    with torch.no_grad():
        features = method.encode_video(method.backbone.normalize(next(batch.views()).flatten(0, 1)))
        return items, features, method.score(features, method.encode_classes(CLASSES))


def test_features_are_those_of_zero_shot_clip(expected):
    items, features, scores = expected
    encoder = MtebEncoder(TinyCLIP(), frames=4)
    videos = [{"video": [Decoder(item.path) for item in items[first : first + 4]]} for first in range(0, 9, 4)]
    made = encoder.encode(videos, task_metadata=None, hf_split="test", hf_subset="default", batch_size=4)
    torch.testing.assert_close(made, features, atol=1e-5, rtol=0)
    texts = encoder.encode([{"text": [f"a video of {name}" for name in CLASSES]}])
    torch.testing.assert_close(encoder.similarity(made, texts), scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.similarity_pairwise(made[:3], texts), scores[:3].diagonal(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("batch", "answer"),
    [
        ({"image": [None]}, "gives image; a backbone encodes either of video and text"),
        ({"video": [], "text": []}, "gives video and text"),
        ({}, "gives neither video nor text"),
    ],
)
def test_other_inputs_are_refused(batch, answer):
    with pytest.raises(ConfigError, match=answer):
        MtebEncoder(TinyCLIP(pretrained=False)).encode([batch])


def test_frames_have_a_range():
    with pytest.raises(ConfigError, match="frames is 0; allowed: 1 to 4,096"):
        MtebEncoder(TinyCLIP(pretrained=False), frames=0)


def test_without_mteb_the_way_out_is_named(kitchen, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    for needs in (lambda: zero_shot_task(FolderVideos(str(kitchen))), lambda: MtebEncoder(TinyCLIP()).mteb_model_meta):
        with pytest.raises(ConfigError, match=r"mteb.* cannot be loaded .*; pip install 'mteb\[video\]>=2\.26'"):
            needs()


@pytest.fixture
def mteb(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    package = pytest.importorskip("mteb", reason="mteb is not installed, which needs transformers and datasets")
    pytest.importorskip(
        "torchcodec", reason="torchcodec's libraries do not load here", exc_type=(ImportError, RuntimeError)
    )
    return package


def test_mteb_has_the_accuracy_of_vlbench(mteb, kitchen, expected):
    items, _, scores = expected
    encoder, task = MtebEncoder(TinyCLIP(), frames=4), zero_shot_task(FolderVideos(str(kitchen)))
    result = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False, encode_kwargs={"batch_size": 4})
    correct = scores.argmax(dim=1) == torch.tensor([item.label for item in items])
    assert result.task_results[0].get_score() == pytest.approx(correct.float().mean().item())


def test_results_are_filed_under_what_features_depend_on(mteb, kitchen):
    metas = [MtebEncoder(TinyCLIP(), frames=frames).mteb_model_meta for frames in (4, 8, 8)]
    assert {meta.name for meta in metas} == {"vlbench/vlbench-tiny-clip"}
    assert metas[0].revision != metas[1].revision == metas[2].revision
    tasks = [zero_shot_task(FolderVideos(str(kitchen)), template) for template in ("{}", "{}", "a video of {}")]
    revisions = [task.metadata.dataset["revision"] for task in tasks]
    assert revisions[0] == revisions[1] != revisions[2]
    assert tasks[0].metadata.name == "vlbench-kitchen-official-split-1"


def test_tasks_of_mteb_take_the_encoder(mteb):
    mocks = pytest.importorskip("mteb.mocks", reason="this mteb ships no tasks without data")
    encoder = MtebEncoder(TinyCLIP(), frames=2)
    for task in (mocks.MockVideoZeroshotClassificationTask(), mocks.MockVideoRetrievalV2T()):
        result = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False)
        assert 0 <= result.task_results[0].get_score() <= 1
