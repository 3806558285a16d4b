"""A backbone as an encoder and a dataset as a task of `mteb`, the suite of embedding benchmarks with tasks on videos.

    import mteb

    from vlbench.backbones import OpenCLIP
    from vlbench.datasets import HMDB51
    from vlbench.tools.mteb import MtebEncoder, zero_shot_task

    encoder = MtebEncoder(OpenCLIP("ViT-B-16-quickgelu", "openai"))
    mteb.evaluate(encoder, zero_shot_task(HMDB51("videos/hmdb51")))
    mteb.evaluate(encoder, mteb.get_task("HMDB51ZeroShot"))

Written for the interface of mteb 2.26. It needs mteb itself and, for tasks on videos, its extra `video`; neither is a
dependency of vlbench.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

import vlbench
from vlbench.backbones.base import DualEncoder
from vlbench.clips.sampling import uniform_test
from vlbench.clips.transforms import test_frames
from vlbench.datasets.base import VideoDataset
from vlbench.errors import ConfigError
from vlbench.ranges import FRAMES

_INSTALL = "pip install 'mteb[video]>=2.26' into this environment"


class MtebEncoder:
    """A backbone with the methods that mteb asks of an encoder: videos and texts become unit features.

    A video's feature is the mean of its frame features, of one clip of evenly spaced frames with a centre crop, as
    `ZeroShot` has it. A text's is that of the text tower, as it is given: the prompt is the task's. The towers are as
    they were loaded, whatever a method has changed.

    Args:
        backbone: Dual encoder of videos and texts, on its device; it is set to evaluation mode.
        frames: Number T of frames of a clip.
    """

    def __init__(self, backbone: DualEncoder, frames: int = 8) -> None:
        FRAMES.check("frames", frames)
        self.backbone = backbone.eval()
        self.frames = frames

    @torch.no_grad()
    def encode(self, inputs: Iterable[Mapping[str, Any]], **_: Any) -> Tensor:
        """Unit features `(N, D)` of the inputs of a task, float32 in the main memory.

        Args:
            inputs: Batches of mteb's data loader: with `video`, a list of torchcodec's decoders, or with `text`, a list
                of texts.

        Raises:
            ConfigError: If a batch has something else, or both.
        """
        if hasattr(inputs, "collate_fn"):
            inputs.collate_fn = _listed  # videos stay decoders until here
        features = [self._encode(batch) for batch in inputs]
        return torch.cat(features) if features else torch.empty(0, self.backbone.embed_dim)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines `(N, M)` of N and M features."""
        return normalize(torch.as_tensor(embeddings1), dim=-1) @ normalize(torch.as_tensor(embeddings2), dim=-1).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines `(N,)` of N features, each with its own of N others."""
        return torch.nn.functional.cosine_similarity(torch.as_tensor(embeddings1), torch.as_tensor(embeddings2), dim=-1)

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb files results under: name of the backbone, and a digest of all that features depend on."""
        meta = _mteb("mteb.models").ModelMeta
        facts = {**self.backbone.feature_facts(), "frames": self.frames, "version": vlbench.__version__}
        text = json.dumps(facts, sort_keys=True)
        return meta.create_empty(
            overwrites={
                "name": f"vlbench/{self.backbone.identity.name}",
                "revision": hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
                "modalities": ["video", "text"],
                "embed_dim": self.backbone.embed_dim,
                "n_parameters": sum(parameter.numel() for parameter in self.backbone.parameters()),
                "framework": ["PyTorch"],
            }
        )

    def _encode(self, batch: Mapping[str, Any]) -> Tensor:
        kinds = [kind for kind in ("video", "text", "image", "audio") if batch.get(kind) is not None]
        if kinds == ["text"]:
            return normalize(self.backbone.encode_texts(list(batch["text"]), adapted=False).float(), dim=-1).cpu()
        if kinds != ["video"]:
            given = " and ".join(kinds) or "neither video nor text"
            raise ConfigError(f"a task of mteb gives {given}; a backbone encodes either of video and text")
        clips = torch.stack([self._clip(video) for video in batch["video"]])
        pixels = self.backbone.normalize(clips.to(self.backbone.mean.device))
        frames = self.backbone.encode_frames(pixels, adapted=False)
        return normalize(frames.float().mean(dim=1), dim=-1).cpu()

    def _clip(self, video: Any) -> Tensor:
        """Frames `(T, 3, S, S)`, uint8, of a video that torchcodec has opened."""
        indices = uniform_test(video.metadata.num_frames, self.frames, 1)[0]
        frames = video.get_frames_at(indices).data
        of_backbone = self.backbone.frame_options()
        size = of_backbone.pop("image_size")
        resized, (centre,) = test_frames(frames, size=size, resize=size, crops=1, **of_backbone)
        return centre.cut(resized)


def zero_shot_task(dataset: VideoDataset, template: str = "a video of {}") -> Any:
    """A task of mteb: the test part of a dataset against its class names, for any of mteb's encoders of videos.

    Args:
        dataset: Dataset with its test subset, whose videos are all readable; mteb ends at one that is not.
        template: Prompt of a class name, with one `{}`.

    Returns:
        An `mteb.AbsTask` with the name of the dataset and of the list.

    Raises:
        ConfigError: If mteb is missing, or a video is a part of a file or kept as frames, which mteb cannot read.
        DataError: If lists or videos are missing.
    """
    tasks = _mteb("mteb.abstasks.zeroshot_classification")
    metadata = _mteb("mteb.abstasks.task_metadata")
    datasets = _mteb("datasets")
    items = dataset.videos("test")
    if dataset.spec.multi_label:
        raise ConfigError(f"a video of {dataset.label} may have several labels, and the task has one a video")
    parts = [item.id for item in items if item.span is not None]
    if parts:
        raise ConfigError(f"{len(parts)} videos are parts of files, {parts[0]} is one; mteb reads whole files only")
    if dataset.stored == "frames":
        raise ConfigError("the videos are kept as frames, and mteb reads video files only; give those")
    names = list(dataset.test_classes.names)

    class VlbenchZeroShot(tasks.AbsTaskZeroShotClassification):  # type: ignore[name-defined]
        input_column_name = "video"

        def get_candidate_labels(self) -> list[str]:
            return [template.format(name) for name in names]

        def load_data(self, *_: object, **__: object) -> None:
            columns = {"video": [str(item.path) for item in items], "label": [item.label for item in items]}
            self.dataset = datasets.DatasetDict(
                {"test": datasets.Dataset.from_dict(columns).cast_column("video", datasets.Video())}
            )
            self.data_loaded = True

    name = f"vlbench-{dataset.label}-{dataset.list_name('test')}"
    ids = json.dumps([names, template, [[item.id, item.label] for item in items]])
    VlbenchZeroShot.metadata = metadata.TaskMetadata(
        name="".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in name),
        description=f"{dataset.label} as vlbench tests it: {dataset.spec.source}",
        dataset={"path": "vlbench", "revision": hashlib.blake2b(ids.encode(), digest_size=8).hexdigest()},
        type="VideoZeroshotClassification", category="v2t", modalities=["video", "text"], eval_splits=["test"],
        eval_langs=["eng-Latn"], main_score="accuracy",
    )  # fmt: skip
    return VlbenchZeroShot()


def _listed(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}


def _mteb(module: str) -> Any:
    """A module of mteb or of what it needs.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"{module} cannot be loaded ({error}); {_INSTALL}") from error
