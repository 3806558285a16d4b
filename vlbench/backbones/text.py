"""A text tower of open_clip, without the work that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vlbench.backbones.blocks import Position
from vlbench.backbones.layouts import FrameMajor
from vlbench.backbones.towers import Tower
from vlbench.errors import ConfigError

_TEXT = FrameMajor(frames=1)


def highest_id(tokens: Tensor) -> Tensor:
    """Positions `(N,)` of the highest of ids `(N, L)`: the end token's in CLIP's vocabulary."""
    return tokens.argmax(dim=-1)


def first_id(tokens: Tensor, end: int) -> Tensor:
    """Positions `(N,)` of the first `end` in ids `(N, L)`."""
    return (tokens == end).int().argmax(dim=-1)


def first(tokens: Tensor) -> int:  # noqa: ARG001 - as the others
    """Position of the first token of every text."""
    return 0


def last(tokens: Tensor) -> int:
    """Position of the last of ids `(N, L)`, which is padding behind a text that is shorter than the context."""
    return tokens.shape[1] - 1


def check_length(texts: Sequence[str], lengths: Tensor, context: int) -> None:
    """Whether texts fit a context.

    Args:
        texts: Texts that were made tokens.
        lengths: Number of tokens of each text, `(N,)`; one above the context stands for any longer text.
        context: Length of the longest text, in tokens.

    Raises:
        ConfigError: If a text is longer; names it.
    """
    if int(lengths.max()) > context:
        text = texts[int(lengths.argmax())]
        raise ConfigError(f"the text {text!r} has more than the {context} tokens of the context; shorten it")


@dataclass(frozen=True)
class PreparedTexts:
    """Texts, and what the first blocks make of them.

    Attributes:
        ends: Position of the token that is read of each text, int64 `(N,)`, or of all texts.
        hidden: Input of block `start`, `(N, L, D)`; after the last block that of the token that is read, `(N, 1, D)`.
        start: Number of the first block that is not computed yet.
    """

    ends: Position
    hidden: Tensor
    start: int


class TextTower(Tower):
    """The text tower of a model of open_clip, whose parts keep the names that OpenAI gave them.

    One token's output is read, and the last block is computed for it alone. Where attention is causal and that token
    ends the text, what is behind the longest text's end is left out, whatever a tokenizer puts there; elsewhere the
    padding is part of what is computed.

    Args:
        module: Module with `token_embedding`, `positional_embedding`, `transformer.resblocks`, `ln_final` and
            `text_projection`, which may be missing.
        tokenizer: Called with texts and `context_length`, gives int64 ids, padded with 0 unless it may cut texts.
        ends: Gives the positions `(N,)` of the tokens that are read of ids `(N, L)`, or the position in all of them.
        truncate: Whether a text that is too long is cut, its last token made the end token, or is an error.
        padded: Whether the padding up to the context is computed: it is attended to, or a token of it is read.

    Attributes:
        context: Length of the longest text, in tokens.
    """

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        ends: Callable[[Tensor], Position],
        *,
        truncate: bool = False,
        padded: bool = False,
    ) -> None:
        context, width = module.positional_embedding.shape
        super().__init__(module.transformer.resblocks, int(width))
        self.context = int(context)
        self._module = module
        self._tokenizer = tokenizer
        self._ends = ends
        self._truncate = truncate
        self._padded = padded

    @property
    def positional_embedding(self) -> Tensor:
        """Positions of the tokens, `(context, D)`."""
        table: Tensor = self._module.positional_embedding
        return table

    @property
    def token_embedding(self) -> nn.Module:
        """Table of the vectors of the vocabulary's tokens."""
        table: nn.Module = self._module.token_embedding
        return table

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids `(N, L)`, int64, L being the longest text's length, or the context where padding is computed.

        Raises:
            ConfigError: If a text does not fit the context, unless it may be cut.
        """
        ids, lengths = self._ids(texts)
        return ids[:, : max(lengths)].to(self.positional_embedding.device)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens that are computed of each text.

        Raises:
            ConfigError: If a text does not fit the context, unless it may be cut.
        """
        return self._ids(texts)[1]

    def _ids(self, texts: Sequence[str]) -> tuple[Tensor, list[int]]:
        """Token ids `(N, context)` of texts, in the main memory, and how many of each text are computed."""
        # One token more than the context tells a text that fits from one that would be cut.
        ids: Tensor = self._tokenizer(list(texts), context_length=self.context + (not self._truncate))
        if not self._truncate:
            # Not the number of ids that are not 0: inside a text that is a token of CLIP's vocabulary.
            check_length(texts, (ids != 0).int().cumsum(dim=1).argmax(dim=1) + 1, self.context)
            ids = ids[:, : self.context]
        ends = self._ends(ids)
        if self._padded or isinstance(ends, int):
            return ids, [self.context] * len(texts)
        lengths: list[int] = (ends + 1).tolist()
        return ids, lengths

    def embed(self, tokens: Tensor) -> PreparedTexts:
        """Token ids `(N, L)` before the first block."""
        hidden = self._module.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        return PreparedTexts(self._ends(tokens), hidden, start=0)

    def prepare(self, tokens: Tensor) -> PreparedTexts:
        """The part of `encode` below the first block that a method changes."""
        return self.advance(self.embed(tokens), self.first_changed)

    def advance(self, texts: PreparedTexts, stop: int) -> PreparedTexts:
        """Texts after some more blocks.

        Args:
            texts: Texts of which some blocks may be computed.
            stop: Number of the first block that is not computed.
        """
        hidden = self.run(texts.hidden, _TEXT, start=texts.start, stop=stop, read=texts.ends)
        return PreparedTexts(texts.ends, hidden, stop)

    def finish(self, texts: PreparedTexts, *, adapted: bool = True) -> Tensor:
        """The rest of `encode`: features `(N, D)`, not normalised."""
        x = self.run(texts.hidden, _TEXT, start=texts.start, read=texts.ends, adapted=adapted)
        x = self._module.ln_final(x.squeeze(1))
        projection = getattr(self._module, "text_projection", None)
        if isinstance(projection, nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        features: Tensor = x
        return features

    def encode(self, tokens: Tensor, *, adapted: bool = True) -> Tensor:
        """Features of texts, not normalised.

        Args:
            tokens: Token ids `(N, L)`.
            adapted: Whether blocks are replaced and branches are added; without, the tower is as it was loaded.

        Returns:
            `(N, D)`.
        """
        return self.finish(self.embed(tokens), adapted=adapted)
