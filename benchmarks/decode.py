"""Reading one video as a sample: vlbench's loader against the released code's way and others.

The released way opens a decord reader of one thread for each sample, fetches frame after frame, resizes and crops each
with PIL, and normalises floats. torchcodec is used as its users write it: a decoder, the frames by number, the
transforms of torchvision. PyAV sequential and EncodedVideo decode the whole video and then use the transforms of
vlbench. The floor is told beforehand which packets it needs: it decodes these alone, converts the wanted frames and
transforms them as vlbench does. Samples are handed over as uint8, which the model's device normalises, or as floats;
"boxes" are training samples as workers hand them over where the device augments. "train" is MoTE's chain without
jitter, "jittered" has the colours of MSTA.

All take the same frames of the same files in turn, one thread: the speed of a shared machine drifts by tens of per
cent. Printed are medians over the turns, in samples per CPU second (means for "jittered", whose samples are not alike),
and how many of the frames that the first sample asks for show another picture than sequential decoding has there: one
that is nearer to another frame, or far from all. Then, for a loader with one worker, CPU milliseconds a sample of both
processes, and times those of a sample in the process itself.

    python benchmarks/decode.py --repeats 9 --videos DIR
"""

import argparse
import itertools
import math
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import VideoReformatter
from PIL import Image
from pytorchvideo.data.encoded_video import EncodedVideo
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode, RandomResizedCrop, v2

from vlbench.clips.batch import ClipBatch, CutBatch, ViewBatch
from vlbench.clips.decoding import available_backends, open_video
from vlbench.clips.decoding.pyav import PyAVReader
from vlbench.clips.readers import TestViews, TrainClips, Views
from vlbench.clips.sampling import uniform_test, uniform_train
from vlbench.clips.transforms import TrainTransform, test_frames
from vlbench.datasets.specs import VideoItem
from vlbench.errors import DecodeError

try:
    import decord
except ImportError:
    decord = None
try:
    from torchcodec.decoders import VideoDecoder
except (ImportError, RuntimeError):
    VideoDecoder = None

SIZE, FRAMES = 224, 8
JITTER = {"train": 0.0, "jittered": 0.8}
VIEWS = {"1x1": Views(1, 1), "4x3": Views(4, 3, right_edge="quarters")}
KINDS = (*JITTER, *VIEWS)
MEAN, STD = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
AUGMENT = {kind: TrainTransform(SIZE, color_jitter=jitter) for kind, jitter in JITTER.items()}
FAILURES = (DecodeError, av.FFmpegError, RuntimeError, *((decord.DECORDError,) if decord else ()))


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


def read_torchcodec(path, pick):
    decoder = VideoDecoder(str(path))
    return decoder.get_frames_at(pick(len(decoder))).data


class Floor:
    """Reads frames by a plan made before: which packets to decode, and which of their frames are wanted."""

    def __init__(self, path, count, draws):
        self.reformatter = VideoReformatter()
        picks = {tuple(chosen(count, kind, seed_of(draw))) for kind in KINDS for draw in range(draws)}
        self.plans = {indices: self.plan(path, indices) for indices in picks} if count else {}

    def plan(self, path, indices):
        """Packets that are decoded, those whose every frame is, and the wanted frames' times (numbers, where times tell
        nothing)."""
        with PyAVReader(path) as reader:
            if reader.planned:
                times = [reader._times[reader._order[index]] for index in indices]
                wanted = {reader._order[index] for index in indices}
                runs = reader._runs(sorted(wanted))
                return [range(run.start, run.stop) for run in runs], wanted | {run.start for run in runs}, times
            return [range(len(reader._packets))], None, list(indices)

    def __call__(self, path, pick, *, count):
        spans, whole, wanted = self.plans[tuple(pick(count))]
        frames, number = {}, 0
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            context.thread_count = 1
            packets = list(itertools.islice((p for p in container.demux(stream) if p.size), spans[-1].stop))
            for span in spans:
                context.flush_buffers()
                for position in (*span, None):
                    if whole is not None and position is not None:
                        context.skip_frame = "DEFAULT" if position in whole else "NONREF"
                    for frame in context.decode(None if position is None else packets[position]):
                        key = number if whole is None else frame.pts
                        if key in wanted:
                            frames[key] = self.reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                        number += 1
                    if whole is None and number > max(wanted):
                        break
        return torch.from_numpy(np.stack([frames[key] for key in wanted])).permute(0, 3, 1, 2)


# Samples: a tensor from a file, the kind of sample and the number of the draw -----------------------------------------


def chosen(count, kind, seed):
    """Numbers of the frames of a sample, clip by clip."""
    if kind in JITTER:
        return uniform_train(count, FRAMES, generator=torch.Generator().manual_seed(seed))
    return list(itertools.chain(*uniform_test(count, FRAMES, VIEWS[kind].clips)))


def seed_of(draw):
    """What `TrainClips` seeds its first video's draw with."""
    return int(np.random.SeedSequence([0, draw, 0]).generate_state(1)[0])


def released(path, kind, draw):
    images = [Image.fromarray(image) for image in read_decord(path, partial(chosen, kind=kind, seed=seed_of(draw)))]
    side = 256 if kind in JITTER else SIZE
    scale = side / min(images[0].size)
    width, height = (side if edge == min(images[0].size) else int(scale * edge) for edge in images[0].size)
    images = [image.resize((width, height), Image.Resampling.BICUBIC) for image in images]
    if kind in JITTER:
        torch.manual_seed(seed_of(draw))
        top, left, tall, wide = RandomResizedCrop.get_params(images[0], (0.08, 1), (3 / 4, 4 / 3))
        box = (left, top, left + wide, top + tall)
        images = [image.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for image in images]
        if torch.rand(1) < 0.5:
            images = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
        if torch.rand(1) < JITTER[kind]:
            order, *factors = v2.ColorJitter(0.4, 0.4, 0.2, 0.1).make_params([]).values()
            changes = (v2.functional.adjust_brightness, v2.functional.adjust_contrast)
            changes += (v2.functional.adjust_saturation, v2.functional.adjust_hue)
            for k in order.tolist():
                images = [changes[k](image, factors[k]) for image in images]
        if torch.rand(1) < 0.2:
            images = [image.convert("L").convert("RGB") for image in images]
    else:
        down, right = (height - SIZE) // 4, (width - SIZE) // 4
        steps = (0, 4, 2) if VIEWS[kind].crops == 3 else (2,)
        corners = [(step * right, 2 * down) for step in steps]
        images = [image.crop((x, y, x + SIZE, y + SIZE)) for x, y in corners for image in images]
    video = torch.from_numpy(np.concatenate([np.asarray(image) for image in images], axis=2))
    return normalise(video.permute(2, 0, 1).contiguous().unflatten(0, (-1, 3)))


def usual_chain(jitter):
    """Training transforms as one writes them with torchvision."""
    return v2.Compose(
        [
            v2.Resize(256, interpolation=InterpolationMode.BICUBIC, antialias=True),
            v2.RandomResizedCrop(SIZE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=jitter),
            v2.RandomGrayscale(0.2),
        ]
    )


USUAL = {kind: usual_chain(jitter) for kind, jitter in JITTER.items()}


def decoded_otherwise(path, kind, draw, *, read, chains=AUGMENT):
    frames = read(path, partial(chosen, kind=kind, seed=seed_of(draw)))
    if kind in JITTER:
        torch.manual_seed(seed_of(draw))
        return chains[kind](frames)
    views = VIEWS[kind]
    resized, boxes = test_frames(frames, size=SIZE, resize=SIZE, crops=views.crops, right_edge=views.right_edge)
    return torch.stack([box.cut(resized) for box in boxes])


def dataset_of(path, kind, *, backend="pyav", boxes=False, copies=1):
    items = [VideoItem(path, 0, path.name)] * copies
    shape = {"frames": FRAMES, "sampling": "uniform", "backend": backend}
    if kind in JITTER:
        return TrainClips(items, transform=AUGMENT[kind].cut if boxes else AUGMENT[kind], seed=0, **shape)
    return TestViews(items, views=VIEWS[kind], size=SIZE, resize=SIZE, **shape)


def loaded(path, kind, draw, **options):
    """A sample as the model's device gets it from the collation of one; test crops are cut from it."""
    dataset = dataset_of(path, kind, **options)
    if kind in JITTER:
        clip = dataset[0, draw]
        return (CutBatch if options.get("boxes") else ClipBatch).collate([clip])[0]
    return torch.cat(list(ViewBatch.collate([dataset[0]]).views()))


# The table -----------------------------------------------------------------------------------------------------------


def readers(path=None, count=0, draws=0):
    """Name -> (sample, frames for counting wrong ones), for a video of so many frames."""
    table = {"released": (released, read_decord)} if decord else {}
    for name, read in (("PyAV sequential", read_sequentially), ("EncodedVideo", read_encoded_video)):
        table[name] = (partial(decoded_otherwise, read=read), read)
    if VideoDecoder is not None:
        usual = partial(decoded_otherwise, read=read_torchcodec, chains=USUAL)
        table["torchcodec"] = (usual, read_torchcodec)
        table["torchcodec, floats"] = (lambda *sample: normalise(usual(*sample)), read_torchcodec)
    floor = partial(Floor(path, count, draws), count=count)
    table["floor"] = (partial(decoded_otherwise, read=floor), floor)
    for backend in ("pyav", "torchcodec"):
        if backend in available_backends():
            name = "vlbench" if backend == "pyav" else f"vlbench, {backend}"
            table[name] = (partial(loaded, backend=backend), partial(read_vlbench, backend=backend))
    table["vlbench, boxes"] = (partial(loaded, boxes=True), read_vlbench)
    table["vlbench, floats"] = (lambda *sample: normalise(loaded(*sample)), read_vlbench)
    return table


def wrong_frames(read, path, kind, truth, near=10, rounding=0.1, far=8):
    """How many frames of the first draw show another picture than the truth has there; `None` if reading fails.

    Decoders round colours otherwise: a picture is wrong if one of the `near` frames before and after is nearer to it,
    by more than `rounding` grey levels on average, or if it is `far` from the right one.
    """
    indices = chosen(len(truth), kind, seed_of(0))
    try:
        frames = read(path, lambda _: indices)
    except FAILURES:
        return None
    if isinstance(frames, list):
        frames = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    wrong = 0
    for frame, index in zip(frames, indices, strict=True):
        if torch.equal(frame, truth[index]):
            continue
        others = truth[max(0, index - near) : index + near + 1]
        own = (frame.float() - truth[index].float()).abs().mean()
        nearest = min((frame.float() - other.float()).abs().mean() for other in others)
        wrong += bool(own > nearest + rounding or own > far)
    return wrong


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
    middle = statistics.mean if kind == "jittered" else statistics.median
    speeds = [f"{1 / middle(times[name]):.1f}" if name in times else "fails" for name in table]
    shown = ", ".join(f"{name}: {count}" for name, count in wrong.items() if count) or "none"
    print("|", " | ".join([path.name, kind, *speeds, shown]), "|", flush=True)


def cpu_seconds(pid):
    """CPU seconds of all threads of a process, also of one that still runs; Linux's number of its clock."""
    return time.clock_gettime(~pid << 3 | 2)


def through_a_loader(path, kind, repeats):
    """Medians of the CPU seconds of a sample in the process itself, and through a loader with one worker."""
    collate = ClipBatch.collate if kind in JITTER else ViewBatch.collate

    def consume(batch):
        """Cuts the views, as the model's device does."""
        return sum(len(group) for group in batch.views()) if isinstance(batch, ViewBatch) else len(batch.video)

    dataset = dataset_of(path, kind, copies=repeats + 1)
    keys = [(0, draw) for draw in range(repeats + 1)] if kind in JITTER else list(range(repeats + 1))
    loader = iter(DataLoader(dataset, batch_size=1, sampler=keys, num_workers=1, prefetch_factor=1, collate_fn=collate))
    (worker,) = loader._workers
    direct, loaders = [], []
    for key in keys:
        consume(next(loader))
        loaders.append(cpu_seconds(worker.pid) + time.process_time())
        start = time.process_time()
        consume(collate([dataset[key]]))
        direct.append(time.process_time() - start)
    # The worker reads ahead by a sample or two: its time is taken over all turns, less what the process itself read.
    total = loaders[-1] - loaders[0] - sum(direct[:-1])
    return statistics.mean(direct[1:]), total / repeats


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--videos", type=Path, default=Path(__file__).parents[2] / "shared" / "videos", help="real ones"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if decord is None:
        print("The released way is left out: `pip install decord` brings the library that it reads with.")
    header = ["file", "sample", *readers(), "wrong frames"]
    print("| " + " | ".join(header) + " |")
    print("|---" * len(header) + "|")
    in_a_loader = []
    with tempfile.TemporaryDirectory() as folder:
        files = [render(Path(folder) / name, **how) for name, how in RENDERED.items()]
        files += sorted(path for path in options.videos.glob("*.*") if path.is_file())
        for path in files:
            try:
                truth = read_sequentially(path, range)
            except av.FFmpegError as error:
                print(f"{path.name} left out, decoding fails: {error.strerror}")
                continue
            table = readers(path, len(truth), options.repeats + 1)
            for kind in KINDS:
                report(table, path, kind, truth, options.repeats)
                in_a_loader.append((path.name, kind, *through_a_loader(path, kind, options.repeats)))
    print("\n| file | sample | in the process, ms | through a loader, ms | ratio |\n|---|---|---|---|---|")
    for name, kind, alone, loader in in_a_loader:
        print(f"| {name} | {kind} | {1e3 * alone:.1f} | {1e3 * loader:.1f} | {loader / alone:.2f} |")


if __name__ == "__main__":
    main()
