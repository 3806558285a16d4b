"""Texts of a model that is kept whole: its own `encode_text` computes their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vlbench.backbones.text import check_length


class WholeText:
    """The text side of a model of open_clip, without blocks that methods could reach.

    Not a module: the parameters stay registered in the model. Texts are padded to the context, as the model was
    trained: its attention need not be causal.

    Args:
        clip: Model of open_clip, which has `encode_text`.
        tokenizer: Called with texts and `context_length`, gives int64 ids; a text that is too long is an error unless
            the tokenizer `cuts` texts, as those of the Hugging Face hub do.

    Attributes:
        context: Length of the longest text, in tokens.
    """

    def __init__(self, clip: Any, tokenizer: Any) -> None:
        self._clip = clip
        self._tokenizer = tokenizer
        self._cuts = bool(getattr(tokenizer, "cuts", False))
        context = getattr(tokenizer, "context", None) or getattr(tokenizer, "context_length", None)
        self.context = int(context or clip.context_length)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids `(N, context)`, int64.

        Raises:
            ConfigError: If a text does not fit the context, unless the tokenizer cuts it.
        """
        ids: Tensor = self._tokenizer(list(texts), context_length=self.context + (not self._cuts))
        if not self._cuts:
            # Only a text that is too long reaches the one token more; its last one is the end token, which is not 0.
            check_length(texts, (ids[:, -1] != 0) * ids.shape[1], self.context)
        return ids[:, : self.context].to(self._clip.logit_scale.device)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, which is the context: texts are padded."""
        return [self.context] * len(texts)

    def encode(self, tokens: Tensor, *, adapted: bool = True) -> Tensor:  # noqa: ARG002 - nothing is ever adapted
        """Features `(N, D)` of token ids `(N, context)`, not normalised."""
        features: Tensor = self._clip.encode_text(tokens, normalize=False)
        return features


def text_sizes(clip: Any) -> tuple[int, int]:
    """Dimension of the common space and width of the text tower of a model of open_clip."""
    text = getattr(clip, "text", None)
    if text is None:  # a CLIP, which holds the parts of its text tower itself
        projection = clip.text_projection
        size = projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]
        return int(size), int(clip.transformer.width)
    config = getattr(text, "config", None)  # of a text model of the Hugging Face hub
    width = getattr(text, "width", None) or getattr(config, "hidden_size", None) or getattr(config, "d_model", None)
    return int(text.output_dim), int(width or text.output_dim)
