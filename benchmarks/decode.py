"""Reading one video as a sample: vlbench's loader against the released code's way and two others.

The released way opens a decord reader of one thread for each sample, fetches frame after frame, resizes and crops each
with PIL, and normalises floats. PyAV sequential and EncodedVideo decode the whole video and then use vlbench's
transforms. vlbench hands over uint8, which the model's device normalises; "vlbench, floats" does that on the CPU. The
chain is MoTE's, without colour jitter. All take the same frames of the same files in turn, one thread, and ratios are
taken within a turn: the speed of a shared machine drifts by tens of per cent. Printed are medians over the turns, in
samples per CPU second and times the released way's, and how many of the frames that the first sample asks for differ
from sequential decoding in any pixel.

    python benchmarks/decode.py --repeats 9 --videos DIR
"""

import argparse
import itertools
import math
import statistics
import tempfile
import time
from functools import partial
from operator import truediv
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pytorchvideo.data.encoded_video import EncodedVideo
from torchvision.transforms import RandomResizedCrop

from vlbench.clips.decoding import available_backends, open_video
from vlbench.clips.readers import TestViews, TrainClips, Views
from vlbench.clips.sampling import uniform_test, uniform_train
from vlbench.clips.transforms import test_views, train_transform
from vlbench.datasets.specs import VideoItem
from vlbench.errors import DecodeError

try:
    import decord
except ImportError:
    decord = None

SIZE, FRAMES = 224, 8
VIEWS = {"train": None, "1x1": Views(1, 1), "4x3": Views(4, 3, right_edge="quarters")}
MEAN, STD = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
AUGMENT = train_transform(SIZE, color_jitter=0)
FAILURES = (DecodeError, av.FFmpegError, *((decord.DECORDError,) if decord else ()))


def normalise(video):
    """`(.., 3, H, W)` uint8 to floats, as the model's device does."""
    return (video / 255).sub_(MEAN[:, None, None]).div_(STD[:, None, None])


# The videos ----------------------------------------------------------------------------------------------------------


def render(path, *, codec, width, height, rate, options, seconds=10):
    """A picture that glides, turns and zooms behind a still one, with a little noise."""
    generator = torch.Generator().manual_seed(0)

    def texture(*cells):
        layers = [
            torch.rand(1, 3, n, n, generator=generator) * weight for n, weight in zip(cells, (1, 0.4), strict=True)
        ]
        return sum(F.interpolate(layer, size=(600, 800), mode="bicubic") for layer in layers)

    back, front = texture(8, 100), texture(12, 200)[..., :height, :width]
    mask = front[:, :1] > 0.9
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for k in range(seconds * rate):
            turn, zoom, shift = 0.3 * math.sin(k / 60), 0.5 + 0.1 * math.sin(k / 40), 0.3 * math.sin(k / 90)
            cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
            grid = F.affine_grid(torch.tensor([[[cos, -sin, shift], [sin, cos, 0]]]), (1, 3, height, width), False)
            picture = torch.where(mask, front, F.grid_sample(back, grid, align_corners=False))[0]
            picture = 180 * picture + 3 * torch.randn(picture.shape, generator=generator)
            pixels = picture.clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


RENDERED = {
    "web.mp4": {"codec": "libx264", "width": 340, "height": 256, "rate": 30, "options": {"g": "250", "crf": "23"}},
    "xvid.avi": {
        "codec": "mpeg4",
        "width": 320,
        "height": 240,
        "rate": 25,
        "options": {"g": "250", "bf": "2", "b": "800k"},
    },
}

# Readers: frames of a file, uint8, whose numbers `pick` chooses, given how many there are -----------------------------


def read_decord(path, pick):
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    return [reader[index].asnumpy() for index in pick(len(reader))]


def read_sequentially(path, pick):
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        frames = list(container.decode(video=0))
    images = [frames[index].to_ndarray(format="rgb24") for index in pick(len(frames))]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def read_encoded_video(path, pick):
    video = EncodedVideo.from_path(str(path), decode_audio=False)
    clip = video.get_clip(0, math.inf)["video"].permute(1, 0, 2, 3)
    video.close()
    return clip[pick(len(clip))].byte()


def read_vlbench(path, pick, *, backend="pyav"):
    with open_video(path, backend=backend) as reader:
        return reader.frames_at(pick(reader.num_frames))


# Samples: a tensor from a file, the kind of sample and the number of the draw -----------------------------------------


def chosen(count, kind, seed):
    """Numbers of the frames of a sample, clip by clip."""
    if kind == "train":
        return uniform_train(count, FRAMES, generator=torch.Generator().manual_seed(seed))
    return list(itertools.chain(*uniform_test(count, FRAMES, VIEWS[kind].clips)))


def seed_of(draw):
    """What `TrainClips` seeds its first video's draw with."""
    return int(np.random.SeedSequence([0, draw, 0]).generate_state(1)[0])


def released(path, kind, draw):
    images = [Image.fromarray(image) for image in read_decord(path, partial(chosen, kind=kind, seed=seed_of(draw)))]
    side = 256 if kind == "train" else SIZE
    scale = side / min(images[0].size)
    width, height = (side if edge == min(images[0].size) else int(scale * edge) for edge in images[0].size)
    images = [image.resize((width, height), Image.Resampling.BICUBIC) for image in images]
    if kind == "train":
        torch.manual_seed(seed_of(draw))
        top, left, tall, wide = RandomResizedCrop.get_params(images[0], (0.08, 1), (3 / 4, 4 / 3))
        box = (left, top, left + wide, top + tall)
        images = [image.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for image in images]
        if torch.rand(1) < 0.5:
            images = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
        if torch.rand(1) < 0.2:
            images = [image.convert("L").convert("RGB") for image in images]
    else:
        down, right = (height - SIZE) // 4, (width - SIZE) // 4
        steps = (0, 4, 2) if VIEWS[kind].crops == 3 else (2,)
        corners = [(step * right, 2 * down) for step in steps]
        images = [image.crop((x, y, x + SIZE, y + SIZE)) for x, y in corners for image in images]
    video = torch.from_numpy(np.concatenate([np.asarray(image) for image in images], axis=2))
    return normalise(video.permute(2, 0, 1).contiguous().unflatten(0, (-1, 3)))


def decoded_otherwise(path, kind, draw, *, read):
    frames = read(path, partial(chosen, kind=kind, seed=seed_of(draw)))
    if kind == "train":
        torch.manual_seed(seed_of(draw))
        return AUGMENT(frames)
    views = VIEWS[kind]
    return test_views(frames, size=SIZE, resize=SIZE, crops=views.crops, right_edge=views.right_edge)


def loaded(path, kind, draw, *, backend="pyav"):
    items = [VideoItem(path, 0, path.name)]
    if kind == "train":
        clips = TrainClips(items, frames=FRAMES, sampling="uniform", transform=AUGMENT, backend=backend, seed=0)
        return clips[0, draw].video
    clips = TestViews(
        items, frames=FRAMES, sampling="uniform", views=VIEWS[kind], size=SIZE, resize=SIZE, backend=backend
    )
    return clips[0].video


# The table -----------------------------------------------------------------------------------------------------------


def readers():
    """Name -> (sample, frames for counting wrong ones)."""
    table = {"released": (released, read_decord)} if decord else {}
    for name, read in (("PyAV sequential", read_sequentially), ("EncodedVideo", read_encoded_video)):
        table[name] = (partial(decoded_otherwise, read=read), read)
    for backend in ("pyav", "torchcodec"):
        if backend in available_backends():
            name = "vlbench" if backend == "pyav" else f"vlbench, {backend}"
            table[name] = (partial(loaded, backend=backend), partial(read_vlbench, backend=backend))
    table["vlbench, floats"] = (lambda *sample: normalise(loaded(*sample)), read_vlbench)
    return table


def wrong_frames(read, path, kind, truth):
    """How many of the frames of the first draw are not those of sequential decoding; `None` if reading fails."""
    indices = chosen(len(truth), kind, seed_of(0))
    try:
        frames = read(path, lambda _: indices)
    except FAILURES:
        return None
    if isinstance(frames, list):
        frames = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    return sum(not torch.equal(frame, truth[index]) for frame, index in zip(frames, indices, strict=True))


def measure(samples, path, kind, repeats):
    """CPU seconds of every turn of each reader."""
    times = {name: [] for name in samples}
    for turn in range(repeats + 1):
        for name, sample in samples.items():
            start = time.process_time()
            sample(path, kind, turn)
            if turn:  # the first turn warms up
                times[name].append(time.process_time() - start)
    return times


def report(table, path, kind, truth, repeats):
    wrong = {name: wrong_frames(read, path, kind, truth) for name, (_, read) in table.items()}
    times = measure({name: table[name][0] for name in table if wrong[name] is not None}, path, kind, repeats)
    speeds = [f"{1 / statistics.median(times[name]):.1f}" if name in times else "fails" for name in table]
    ratios = [
        f"{statistics.median(map(truediv, times['released'], times[name])):.2f}" if "released" in times else "-"
        for name in ("vlbench", "vlbench, floats")
    ]
    found = ", ".join(f"{name}: {count}" for name, count in wrong.items() if count) or "none"
    print("|", " | ".join([path.name, kind, *speeds, *ratios, found]), "|", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--videos", type=Path, default=Path(__file__).parents[2] / "shared" / "videos", help="real ones"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if decord is None:
        print(
            "The released way and the ratios are left out: `pip install decord` brings the library that it reads with."
        )
    table = readers()
    header = ["file", "sample", *table, "ratio", "ratio, floats", "wrong frames"]
    print("| " + " | ".join(header) + " |")
    print("|---" * len(header) + "|")
    with tempfile.TemporaryDirectory() as folder:
        files = [render(Path(folder) / name, **how) for name, how in RENDERED.items()]
        files += sorted(options.videos.iterdir()) if options.videos.is_dir() else []
        for path in files:
            try:
                truth = read_sequentially(path, range)
            except av.FFmpegError as error:
                print(f"{path.name} left out, decoding fails: {error.strerror}")
                continue
            for kind in VIEWS:
                report(table, path, kind, truth, options.repeats)


if __name__ == "__main__":
    main()
