"""Which weights: a digest of named tensors, and the identity of a backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BackboneIdentity:
    """Says which frozen weights a checkpoint belongs to.

    Attributes:
        name: Name of the architecture.
        pretrained: Tag or file that the weights came from, `None` for random ones.
        digest: `weights_digest` of all parameters, as they were when the backbone was built.
    """

    name: str
    pretrained: str | None
    digest: str

    def as_dict(self) -> dict[str, str | None]:
        """Plain values for a checkpoint or a record."""
        return asdict(self)


def weights_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hexadecimal digest of every tensor's name, type, shape and bytes.

    It depends neither on the device nor on the order of the tensors. On the meta device tensors have no bytes.

    Args:
        tensors: Pairs of name and tensor, such as `module.named_parameters()`.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        if tensor.device.type != "meta":
            values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()
