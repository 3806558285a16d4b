"""Names of files and videos as text and as bytes: they may hold tabs, line breaks and bytes that are no UTF-8."""

from __future__ import annotations

import json


def quoted(name: str) -> str:
    """A name for one field of a line of text: as it is where it is printable, otherwise as a JSON string.

    File names may hold tabs, line breaks and bytes that are no UTF-8. What begins with a quotation mark is JSON.
    """
    return name if name.isprintable() and not name.startswith('"') else json.dumps(name)


def one_line(text: str) -> str:
    """A text that may quote names, with line breaks, tabs and bytes that are no UTF-8 escaped as in JSON."""
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)


def name_bytes(name: str) -> bytes:
    """The bytes of a name, for digests; of a file name those on the disk, whether they are UTF-8 or not."""
    try:
        return name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # a surrogate that no file name holds, as an annotation in JSON may
        return name.encode(errors="surrogatepass")


def is_text(name: str) -> bool:
    """Whether a name is UTF-8, which lists and names of classes are; it may still hold line breaks."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
