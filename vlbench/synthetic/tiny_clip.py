"""The tiny CLIP that ships with the package: its open_clip configuration, tokenizer and weights.

It has 1.4M parameters and knows the synthetic dataset's objects and words, so that every part of the benchmark
can be run without a download. `pretrain` made the weights; `assets/tiny_clip.json` records how.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from vlbench.files import cache_folder, write_atomically

TINY_CLIP = "vlbench-tiny-clip"
"""Name of the model in open_clip's registry, once `register` has been called."""
IMAGE_SIZE = 32
"""Height and width of the images it takes, in pixels."""
CONTEXT_LENGTH = 32
"""Tokens of a text, start and end included."""
MERGES = 6000
"""How many of CLIP's 48,894 byte-pair merges are kept: enough for short texts, and a small embedding table."""
VOCAB_SIZE = 2 * 256 + MERGES + 2


def model_config() -> dict[str, Any]:
    """The model's open_clip configuration (two towers, plain GELU, embeddings of width 128)."""
    return {
        "embed_dim": 128,
        "quick_gelu": False,
        "vision_cfg": {"image_size": IMAGE_SIZE, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": VOCAB_SIZE,
            "width": 64,
            "heads": 2,
            "layers": 3,
            "tokenizer_kwargs": {"bpe_path": str(_merges_path())},
        },
    }


@cache
def register() -> str:
    """Adds the model to open_clip's registry and returns its name there, `TINY_CLIP`.

    Afterwards `open_clip.create_model(TINY_CLIP, pretrained=str(weights_path()))` and
    `open_clip.get_tokenizer(TINY_CLIP)` work. Calling it again does nothing.
    """
    import open_clip

    # open_clip takes the name from the file's and may read the file again at any time, so it has to stay.
    path = cache_folder() / f"{TINY_CLIP}.json"
    write_atomically(path, json.dumps(model_config(), indent=2).encode())
    open_clip.add_model_config(path)
    return TINY_CLIP


def tokenizer() -> Any:
    """CLIP's tokenizer with its merges cut to `MERGES`.

    Returns:
        An `open_clip.SimpleTokenizer`: called with a list of texts, it gives an int64 tensor of shape
        (texts, `CONTEXT_LENGTH`), padded with zeros, ids below `VOCAB_SIZE`.
    """
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(bpe_path=str(_merges_path()), context_length=CONTEXT_LENGTH)


def weights_path() -> Path:
    """The shipped weights: a safetensors file of float16 tensors under open_clip's state-dict keys."""
    return Path(__file__).parent / "assets" / "tiny_clip.safetensors"


@cache
def _merges_path() -> Path:
    """The cut list of merges, made from open_clip's own file where it is not there yet."""
    from open_clip.tokenizer import default_bpe

    path = cache_folder() / f"bpe_{MERGES}.txt.gz"
    if not path.is_file():
        with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
            lines = [line for line, _ in zip(file, range(MERGES + 1), strict=False)]  # the first is a version line
        # SimpleTokenizer splits at line ends and would take an empty last line for one more merge.
        write_atomically(path, gzip.compress("".join(lines).rstrip("\n").encode(), mtime=0))
    return path
