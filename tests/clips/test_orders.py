"""Counterfactual orders of test views: of the frame numbers, of the pixels, and from one decoding a video."""

from collections import Counter
from functools import partial
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import indices_from_pixels, write_video
from vlbench.clips import readers, sampling
from vlbench.clips.batch import ViewBatch
from vlbench.clips.counterfactual import CounterfactualBatch, CounterfactualViews
from vlbench.clips.options import ViewOrder, Views
from vlbench.clips.orders import clips_in, places_in, shown_in, striped
from vlbench.clips.readers import TestViews
from vlbench.datasets.specs import VideoItem

ORDERS = get_args(ViewOrder)
PERMUTATIONS = ("normal", "reversed", "shuffled", "stripes")
COUNT = 40

videos = st.text(max_size=8)
counts = st.integers(1, 200)
lengths = st.integers(1, 32)
pickers = st.sampled_from([sampling.uniform_test, sampling.dense_test])


def clips(order, count, frames, number, video, pick):
    return clips_in(order, lambda n: pick(n, frames, number), count, video)


@pytest.mark.quick
@given(st.sampled_from(ORDERS), counts, lengths, st.integers(1, 4), videos, pickers)
def test_every_order_has_as_many_frames_and_none_outside_the_video(order, count, frames, number, video, pick):
    views = clips(order, count, frames, number, video, pick)
    assert [len(view) for view in views] == [frames] * number
    assert all(0 <= frame < count for view in views for frame in view)
    assert views == clips(order, count, frames, number, video, pick)


@pytest.mark.quick
@given(counts, lengths, st.integers(1, 4), videos, pickers)
def test_orders_show_the_frames_that_their_names_say(count, frames, number, video, pick):
    of = {order: clips(order, count, frames, number, video, pick) for order in ORDERS}
    for order in PERMUTATIONS:
        assert list(map(sorted, of[order])) == list(map(sorted, of["normal"]))
    assert [view[::-1] for view in of["reversed"]] == of["normal"] == of["stripes"]
    for view, middle, half in zip(of["normal"], of["middle"], of["half_rate"], strict=True):
        assert middle == [view[frames // 2]] * frames
        assert half[::2] == view[::2]
        assert half[1::2] == view[::2][: frames // 2]
    half = (count + 1) // 2
    assert of["first_half"] == pick(half, frames, number)
    assert of["second_half"] == [[count // 2 + frame for frame in view] for view in pick(half, frames, number)]


@pytest.mark.quick
@given(lengths, videos)
def test_a_shuffle_moves_frames_and_depends_on_the_video_alone(frames, video):
    places = places_in("shuffled", frames, video)
    assert sorted(places) == list(range(frames))
    assert frames == 1 or places != sorted(places)
    torch.manual_seed(len(video))  # whatever else was drawn
    assert places_in("shuffled", frames, video) == places


@pytest.mark.quick
def test_shuffles_differ_between_videos_and_stay_what_they_are():
    shuffles = Counter(tuple(places_in("shuffled", 4, f"{number}.mp4")) for number in range(1150))
    assert len(shuffles) == 23  # of the 24 permutations all but the identity
    assert min(shuffles.values()) > 25
    assert places_in("shuffled", 8, "a.mp4") == [3, 7, 4, 5, 2, 1, 0, 6]


@pytest.mark.quick
def test_stripes_take_the_place_of_what_moves_and_leave_the_background():
    clip = torch.full((6, 3, 56, 84), 100, dtype=torch.uint8)
    clip[:, :, 40:, :] = torch.arange(84, dtype=torch.uint8)  # a background with a picture
    still = clip.clone()
    for frame in range(6):
        clip[frame, 0, 4:12, 10 * frame : 10 * frame + 8] = 250  # red moves to the right
    noisy = clip.clone()
    noisy[1::2, 2] += 20
    shown = striped(clip)
    assert shown.shape == clip.shape
    assert shown.dtype == torch.uint8
    assert all(torch.equal(frame, shown[0]) for frame in shown)
    moves = (clip != still).any(0).any(0)
    assert torch.equal(shown[0][:, ~moves], still[0][:, ~moves])
    rows = torch.arange(56) // 2 % 2 * 255  # a 28th of the shorter side is 2 pixels
    assert torch.equal(shown[0][:, moves], rows[:, None].expand(56, 84)[moves].expand(3, -1).to(torch.uint8))
    assert torch.equal(striped(still), still)
    assert torch.equal((striped(noisy)[0] == rows[:, None]).all(0) & moves, moves)  # noise does not move


@pytest.mark.quick
def test_a_pixel_moves_from_33_levels_on():
    clip = torch.full((3, 3, 28, 28), 100, dtype=torch.uint8)
    clip[1, 0, 5, 5], clip[1, 1, 7, 7] = 132, 133
    shown = striped(clip)
    assert shown[0, :, 5, 5].tolist() == [100] * 3
    assert shown[0, :, 7, 7].tolist() == [255] * 3


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orders")
    (folder / "damaged.mp4").write_bytes(b"no video")
    paths = [write_video(folder / f"{count}.mp4", count) for count in (COUNT, 13, 3)]
    return [VideoItem(path, place, path.name) for place, path in enumerate([*paths, folder / "damaged.mp4"])]


def views_of(items, **views):
    return TestViews(
        items, frames=4, sampling="uniform", views=Views(**views), size=32, resize=32, backend="pyav"
    )  # fmt: skip


@pytest.mark.parametrize("order", [order for order in ORDERS if order != "stripes"])  # those pixels are of no frame
def test_a_test_sees_the_frames_of_its_order(items, order):
    video = views_of(items[:1], clips=2, order=order)[0].video
    expected = clips_in(order, lambda count: sampling.uniform_test(count, 4, 2), COUNT, items[0].id)
    assert [indices_from_pixels(clip) for clip in video] == expected


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("batch", [1, 4])
def test_all_orders_together_are_each_order_alone(items, crops, batch):
    together = CounterfactualViews(views_of(items, clips=2, crops=crops), ORDERS)
    collate = partial(CounterfactualBatch.collate, at_once=3, orders=ORDERS)
    seen = {order: {} for order in ORDERS}
    for first in range(0, 4, batch):
        members = [together[index] for index in range(first, first + batch)]
        for order, videos in collate(members).in_orders():
            alone = views_of(items, clips=2, crops=crops, order=order)
            expected = ViewBatch.collate([alone[index] for index in range(first, first + batch)], at_once=3)
            assert videos.ids == expected.ids
            assert videos.failures.keys() == expected.failures.keys()
            assert all(map(torch.equal, videos.views(), expected.views()))
            seen[order] |= dict.fromkeys([*videos.ids, *videos.failures])
    assert all(list(videos) == [item.id for item in items] for videos in seen.values())


def test_a_video_is_decoded_once_for_all_orders(items, monkeypatch):
    opened, asked = Counter(), []
    open_video = readers.open_video

    def counting(path, **options):
        opened[path] += 1
        reader = open_video(path, **options)
        frames_at = reader.frames_at
        reader.frames_at = lambda numbers: asked.append(numbers) or frames_at(numbers)
        return reader

    monkeypatch.setattr(readers, "open_video", counting)
    together = CounterfactualViews(views_of(items[:3], clips=2), ORDERS)
    for index in range(3):
        together[index]
    assert set(opened.values()) == {1}
    assert len(opened) == len(asked) == 3
    assert all(len(set(numbers)) == len(numbers) for numbers in asked)


def test_stripes_of_a_still_view_are_the_view():
    frames = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(
        shown_in("stripes", frames, torch.zeros(1, 4, dtype=torch.int64))[0], frames.expand(4, -1, -1, -1)
    )
