"""CLIP's causal text tower, without the work that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlbench.backbones.base import FrameMajor, Tower, pick
from vlbench.backbones.blocks import ReadOnce
from vlbench.errors import ConfigError


@dataclass(frozen=True)
class PreparedTexts:
    """Texts, and what the blocks below the first branch make of them.

    Attributes:
        ends: position of each text's end token, int64 `(N,)`.
        hidden: input of the first block with a branch, `(N, L, D)`.
    """

    ends: Tensor
    hidden: Tensor


class TextTower(Tower):
    """The text tower of a CLIP, whose parts keep the names that OpenAI gave them.

    Attention is causal and only the end token's output is read. So texts are cut behind the longest one's end, and the
    last block is computed for the end token alone.

    Args:
        module: holds `token_embedding`, `positional_embedding`, `transformer.resblocks`, `ln_final` and
            `text_projection`.
        tokenizer: called with texts and `context_length`, gives int64 ids padded with 0.
        ends: positions `(N,)` of the end tokens of ids `(N, L)`.
        truncate: whether a text that is too long is cut, its last token made the end token, or is an error.
    """

    def __init__(
        self, module: Any, tokenizer: Any, ends: Callable[[Tensor], Tensor], *, truncate: bool = False
    ) -> None:
        context, width = module.positional_embedding.shape
        super().__init__(module.transformer.resblocks, int(width), FrameMajor())
        self.context = int(context)
        self._module = module
        self._tokenizer = tokenizer
        self._ends = ends
        self._truncate = truncate

    @property
    def positional_embedding(self) -> Tensor:
        """Of the tokens, `(context, D)`."""
        table: Tensor = self._module.positional_embedding
        return table

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids `(N, L)`, int64, L being the longest text's length.

        Raises:
            ConfigError: if a text does not fit the context, unless it may be cut.
        """
        # One token more than the context tells a text that fits from one that would be cut.
        ids: Tensor = self._tokenizer(list(texts), context_length=self.context + (not self._truncate))
        lengths = (ids != 0).sum(dim=1)
        longest = int(lengths.max())
        if longest > self.context:
            text = texts[int(lengths.argmax())]
            raise ConfigError(f"the text {text!r} has more than the {self.context} tokens of the context; shorten it")
        return ids[:, :longest].to(self.positional_embedding.device)

    def prepare(self, tokens: Tensor) -> PreparedTexts:
        """The part of `encode` below the first branch."""
        hidden = self._module.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        ends = self._ends(tokens)
        return PreparedTexts(ends, self._run(hidden, ends, range(self.first_branch)))

    def finish(self, prepared: PreparedTexts) -> Tensor:
        """The rest of it: features `(N, D)`, not normalised."""
        rest = range(self.first_branch, len(self.blocks))
        last = self._run(prepared.hidden, prepared.ends, rest)
        if last.shape[1] > 1:
            last = pick(last, prepared.ends)
        features: Tensor = self._module.ln_final(last.squeeze(1)) @ self._module.text_projection
        return features

    def encode(self, tokens: Tensor) -> Tensor:
        """Features `(N, D)` of token ids `(N, L)`, not normalised."""
        return self.finish(self.prepare(tokens))

    def _run(self, x: Tensor, ends: Tensor, indices: range) -> Tensor:
        length = x.shape[1]
        mask = torch.full((length, length), float("-inf"), device=x.device, dtype=x.dtype).triu(1)
        for index in indices:
            block = self.blocks[index]
            at = {"at": ends} if isinstance(block, ReadOnce) else {}
            x = block(x, attn_mask=mask, **at)
        return x
