"""The tokenizer of an open_clip architecture: CLIP's, which comes with the library, or one of the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from vlbench.errors import ConfigError


class ModelTokenizer:
    """An architecture's tokenizer, whose files are read when it is first used.

    Args:
        model: Name of the architecture in open_clip.
        config: Configuration of the architecture.
        folder: Folder with the tokenizer's files; `None` takes those that open_clip names.

    Attributes:
        hub: Name of the tokenizer in the Hugging Face hub; `None` where it is CLIP's.
        context: Length of the longest text, in tokens.
        cuts: Whether a text that is too long is cut, as the hub's tokenizers do; CLIP's leave it to the caller.

    Raises:
        ConfigError: If a folder is given for a tokenizer that comes with open_clip.
    """

    def __init__(self, model: str, config: Mapping[str, Any], folder: str | None = None) -> None:
        text = config["text_cfg"]
        self.model = model
        self.folder = folder
        self.hub: str | None = text.get("hf_tokenizer_name") or None
        self.context = int(text.get("context_length") or 77)
        self.cuts = self.hub is not None
        self._options = {"tokenizer_mode": text.get("tokenizer_mode"), **text.get("tokenizer_kwargs", {})}
        if folder is not None and self.hub is None:
            raise ConfigError(
                f"text_files is {folder} and {model} has CLIP's tokenizer, which comes with open_clip; leave it out"
            )

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """Token ids `(N, L)`, int64, padded to the context or to another length L.

        Raises:
            ConfigError: If files are missing.
        """
        ids: Tensor = self._loaded(list(texts), context_length=context_length or self.context)
        return ids

    def load(self) -> None:
        """Reads the files.

        Raises:
            ConfigError: If some are missing; names them.
        """
        assert self._loaded is not None

    @cached_property
    def digest(self) -> str:
        """Hexadecimal digest of the files of the folder."""
        digest = hashlib.blake2b(digest_size=8)
        for path in sorted(Path(self.folder or "").iterdir()):
            if path.is_file() and path.suffix in (".json", ".txt", ".model"):
                digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

    @cached_property
    def _loaded(self) -> Any:
        import open_clip

        if self.hub is None:
            return open_clip.get_tokenizer(self.model)
        if self.folder is not None and not Path(self.folder).is_dir():
            raise ConfigError(f"text_files is {self.folder}, which is not a folder; {self._way_out()}")
        try:
            return open_clip.tokenizer.HFTokenizer(
                self.folder or self.hub, context_length=self.context, **self._options
            )
        except Exception as error:  # whatever transformers, its downloader or the lack of them raises
            raise ConfigError(
                f"{self.model} reads texts with the tokenizer {self.hub} of the Hugging Face hub, which cannot be "
                f"loaded ({shortened(error)}); {self._way_out()}"
            ) from error

    def _way_out(self) -> str:
        return (
            f"`pip install transformers`, and without a network give a folder with the files of {self.hub} "
            "(tokenizer.json, tokenizer_config.json) as text_files"
        )


def shortened(error: Exception) -> str:
    """The beginning of what an error says, in one line without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = " ".join(lines[:4]).rstrip(".")
    return text if len(lines) <= 4 and len(text) <= 400 else f"{text[:400]} ..."
