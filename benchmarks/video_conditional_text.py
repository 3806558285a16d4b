"""The text sides of TC-CLIP and X-CLIP, whose class features depend on the video, against the plain way.

The plain way is the released code's. TC-CLIP's runs the whole text tower on the whole context once a video. X-CLIP's
runs it once for all videos, on the whole context, and then two blocks on every pair of a video and a class. Both ways
have the same weights, ViT-B/16's sizes with random values, and give the same scores, without gradients; printed are CPU
seconds, one thread. The plain way of TC-CLIP takes as long for each video: it is timed on some of them.

    python benchmarks/video_conditional_text.py --videos 2 8 --timed 8
"""

import argparse
import itertools
import time
from functools import partial

import torch
import torch.nn.functional as F

from vlbench.backbones import OpenCLIP
from vlbench.backbones.layouts import FrameMajor
from vlbench.datasets.ucf101_names import WORDS
from vlbench.methods import TCCLIP, XCLIP
from vlbench.methods.parts.video_text import ConditionalVideos

CONTEXT = 30
"""Tokens of a text in the released recipes."""


def plain_features(method, context, tokens):
    """Class features `(B, C, D)` of videos, not normalised: every block, on every token, for every video.

    Args:
        method: A TC-CLIP.
        context: Features of the videos' context tokens, `(B, k, D)`.
        tokens: Token ids of the classes' texts, `(C, L)`.
    """
    clip, text, behind = method.backbone.clip, method.backbone.text, 1 + len(method.learned)
    features = []
    for of_video in context:
        texts = text.embed(tokens)
        x = texts.hidden.clone()
        x[:, 1:behind] = method.learned + text.positional_embedding[1:behind]
        for index, block in enumerate(text.blocks):
            if index == len(text.blocks) - 1:
                x[:, 1:behind] = method.generator(x[:, 1:behind], of_video.expand(len(x), -1, -1))
            x = block(x, FrameMajor(frames=1))
        features.append(clip.ln_final(x[torch.arange(len(x)), texts.ends]) @ clip.text_projection)
    return torch.stack(features)


def plain_prompts(method, context, text):
    """Class features `(B, C, D)` of videos, not normalised: both blocks on every pair of a video and a class.

    Args:
        method: An X-CLIP.
        context: Features of the videos' patches, `(B, P, D)`.
        text: Features of the classes without a video, `(C, D)`.
    """
    generator = method.generator
    x, patches = text.expand(len(context), -1, -1).contiguous(), generator.norm(context)
    for block in generator.decoder:
        x = block(x, patches)
    return text + generator.alpha * x


def plain_texts(method, names):
    """Features `(C, D)` of class names, every block on every token of the context."""
    clip, text = method.backbone.clip, method.backbone.text
    ids = method.backbone.tokenize(names)
    texts = text.embed(F.pad(ids, (0, text.context - ids.shape[1])))
    x = texts.hidden
    for block in text.blocks:
        x = block(x, FrameMajor(frames=1))
    return clip.ln_final(x[torch.arange(len(x)), texts.ends]) @ clip.text_projection


@torch.no_grad()
def compare_tc_clip(method, classes, count, timed, tokens=96):
    """CPU seconds of the plain way, from those of its first videos, and of the method's, for the scores of videos."""
    names = (WORDS * 4)[:classes]
    ids = method.backbone.tokenize(method.texts(names))
    whole = F.pad(ids, (0, CONTEXT - ids.shape[1]))
    video = F.normalize(torch.randn(count, method.backbone.embed_dim), dim=-1)
    videos = ConditionalVideos(video, torch.randn(count, tokens, method.backbone.embed_dim))
    start = time.process_time()
    own = method.score(videos, method.prepare(ids))
    middle = time.process_time()
    plain = plain_features(method, videos.context[:timed], whole)
    theirs = torch.einsum("bd,bcd->bc", video[:timed], F.normalize(plain, dim=-1))
    end = time.process_time()
    assert torch.allclose(own[:timed], theirs, atol=1e-4), (own[:timed] - theirs).abs().max()
    return {"TC-CLIP, all": ((end - middle) * count / len(plain), middle - start)}


@torch.no_grad()
def compare_x_clip(method, classes, count, patches=196):
    """CPU seconds of the plain way and of the method's, of the texts, once, and of the prompts and scores of videos."""
    names = (WORDS * 4)[:classes]
    video = F.normalize(torch.randn(count, method.backbone.embed_dim), dim=-1)
    videos = ConditionalVideos(video, torch.randn(count, patches, method.backbone.embed_dim))
    times = [time.process_time()]

    def timed(result):
        times.append(time.process_time())
        return result

    text = timed(method.encode_classes(names))
    own = timed(method.score(videos, text))
    plain = timed(plain_texts(method, names))
    theirs = timed(torch.einsum("bd,bcd->bc", video, F.normalize(plain_prompts(method, videos.context, plain), dim=-1)))
    assert torch.allclose(own, theirs, atol=1e-4), (own - theirs).abs().max()
    own_text, own_prompts, plain_text, prompts = (end - start for start, end in itertools.pairwise(times))
    return {
        "X-CLIP, texts, once": (plain_text, own_text),
        "X-CLIP, prompts and scores": (prompts, own_prompts),
        "X-CLIP, all": (plain_text + prompts, own_text + own_prompts),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[8])
    parser.add_argument("--classes", type=int, default=400, help="at most 404")
    parser.add_argument("--timed", type=int, default=2, help="videos that TC-CLIP's plain way is timed on")
    parser.add_argument("--methods", nargs="+", choices=["tc_clip", "x_clip"], default=["tc_clip", "x_clip"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| text side | videos | classes | plain, CPU s | vlbench, CPU s | ratio |")
    print("|---|---|---|---|---|---|")
    for name in options.methods:
        if name == "tc_clip":
            method = TCCLIP(OpenCLIP("ViT-B-16-quickgelu")).eval()
            compare = partial(compare_tc_clip, method, timed=options.timed)
        else:
            method = XCLIP(OpenCLIP("ViT-B-16-quickgelu"), frames=8).eval()
            compare = partial(compare_x_clip, method)
        compare(classes=8, count=1)  # loads what is loaded late
        for count in options.videos:
            for side, (plain, own) in compare(classes=options.classes, count=count).items():
                row = f"{plain:.2f} | {own:.2f} | {plain / own:.1f}"
                print(f"| {side} | {count} | {options.classes} | {row} |", flush=True)


if __name__ == "__main__":
    main()
