"""The last field of a record, `sha256`, over all that stands before it in the file.

A record repeats much of itself, and what contradicts itself is refused; this is for the rest, such as right predictions
that are exchanged between two classes. It is no signature: whoever means to can make another one.
"""

from __future__ import annotations

import hashlib

_BEGINNING = ',\n "sha256": "'
_END = '"\n}\n'


def sealed(text: str) -> str:
    """A record's JSON, one field a line, with its last field."""
    body = text.removesuffix("\n}\n")
    return body + _BEGINNING + hashlib.sha256(body.encode()).hexdigest() + _END


def check_seal(data: bytes) -> None:
    """Raise ValueError where a record's file is not, byte for byte but for line ends, what was sealed."""
    body, _, rest = data.replace(b"\r\n", b"\n").rpartition(_BEGINNING.encode())
    if rest != (hashlib.sha256(body).hexdigest() + _END).encode():
        raise ValueError("sha256: not that of all before it, so something was changed since the record was written")
