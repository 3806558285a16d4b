"""The text side of TC-CLIP, whose class features depend on the video, against the plain way.

The plain way runs the whole text tower on the whole context once a video, as the released code does. Both have the same
weights, ViT-B/16's sizes with random values, and give the same scores, without
gradients; printed are CPU seconds, one thread. The plain way takes as long for each video: it is timed on some of them.

    python benchmarks/video_conditional_text.py --videos 2 8 --timed 8
"""

import argparse
import time

import torch
import torch.nn.functional as F

from vlbench.backbones import OpenCLIP
from vlbench.backbones.layouts import FrameMajor
from vlbench.datasets.ucf101_names import WORDS
from vlbench.methods import TCCLIP
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


@torch.no_grad()
def compare(method, classes, count, timed, tokens=96):
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
    return (end - middle) * count / len(plain), middle - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[8])
    parser.add_argument("--classes", type=int, default=400, help="at most 404")
    parser.add_argument("--timed", type=int, default=2, help="videos that the plain way is timed on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    method = TCCLIP(OpenCLIP("ViT-B-16-quickgelu")).eval()
    compare(method, 8, 1, 1)  # loads what is loaded late
    print("| videos | classes | plain, CPU s | vlbench, CPU s | ratio |")
    print("|---|---|---|---|---|")
    for count in options.videos:
        plain, own = compare(method, options.classes, count, options.timed)
        print(f"| {count} | {options.classes} | {plain:.1f} | {own:.1f} | {plain / own:.1f} |", flush=True)


if __name__ == "__main__":
    main()
