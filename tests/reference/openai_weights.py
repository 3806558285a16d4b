"""A backbone with the weights of a golden case, for methods that train the table of tokens too."""

from pathlib import Path

import torch
from torch import Tensor

from tests.reference.golden import Case
from vlbench.backbones import OpenAICLIP

_VOCABULARY = 49408


def beside(golden: Case, name: str) -> Case:
    """Another case of the same folder."""
    return Case(golden.folder / f"{name}.json")


def clip_of(weights: Case, path: Path) -> OpenAICLIP:
    """The backbone with the weights `state.*` of a case, whose table of tokens is zero but for the rows it names.

    Args:
        weights: Case with the weights in half precision.
        path: File that the weights are written to.
    """
    state = {key: value.float() for key, value in weights.state().items() if not key.startswith("token_embedding.row")}
    rows = weights["state.token_embedding.rows"].float()
    table = torch.zeros(_VOCABULARY, rows.shape[1])
    table[weights["state.token_embedding.row_ids"]] = rows
    torch.save({**state, "token_embedding.weight": table}, path)
    return OpenAICLIP(str(path))


def close_after_steps(actual: Tensor, expected: Tensor) -> None:
    """Weights after steps of Adam, which moves single ones by rounding where their gradient is tiny, but not most."""
    error, largest = (actual.detach() - expected).abs(), expected.abs().max()
    assert error.max() <= 2e-3 * largest
    assert error.mean() <= 3e-5 * largest
