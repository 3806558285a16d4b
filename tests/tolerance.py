"""How equal two tensors have to be: bit for bit, or but for rounding.

A floating-point sum depends on the order of its terms, and libraries choose that order by the size of a matrix, the
number of threads, the processor and the alignment of memory. Two results are equal bit for bit by construction if

- values are copied, chosen, reordered, stored or read back: nothing is computed,
- everything is computed in integers, as the pixels of a decoded video are, or
- both come from the same operations on tensors of the same sizes, with as many threads, on one machine and with the
  same versions of its libraries. That a term is multiplied by zero, or that a process was killed in between, changes
  nothing of this.

Such claims are made by `assert_same_bits`. All others are made by `assert_same_but_rounding`: a text or a video alone
against one in a batch, other batch sizes, other numbers of processes or threads, another order of a sum, a formula
against its restatement.
"""

import torch
from torch import Tensor

# Largest difference of two elements, as a part of the largest magnitude in the expected tensor. Machine epsilon is
# 1.2e-7 and 2.2e-16; a tower multiplies it by the depth and by the square root of its width.
_RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-13}


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    """Two tensors of one dtype and shape, bit for bit; only for claims that the module's docstring lists.

    Raises:
        AssertionError: if an element differs, with the number of them and the largest difference.
    """
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def assert_same_but_rounding(actual: Tensor, expected: Tensor) -> None:
    """Two float32 or float64 tensors of one dtype and shape, but for the order of sums.

    The tolerance is 1e-5 in float32 and 1e-13 in float64, times the largest magnitude in `expected`.

    Raises:
        AssertionError: if an element differs by more, with the number of them and the largest difference.
    """
    scale = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=_RELATIVE[expected.dtype] * scale)
