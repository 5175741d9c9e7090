"""What is wrong with the bytes of a medium."""

import re

_CHARS = 160
# What only a debugger reads: addresses, bytes in hexadecimal, numbers of errors, and Python's names for things.
_CRYPTIC = re.compile(r"<|\\x|0x|\b[bu]?'|Errno|\b[Ee]rror\b|[\w]+\.[A-Z]|\b(?=\d*[a-f])[0-9a-f]{8}", re.ASCII)


class MediaError(ValueError):
    """These bytes cannot be used: `reason` is a stable snake_case code, `detail` says what was found in them."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that the error survives pickling
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def plain(error: Exception) -> str:
    """What a library said, as `: words` to put behind our own; empty where no reader would know what it means."""
    text = getattr(error, "strerror", None) or (str(error) if not isinstance(error, KeyError) else "")
    return f": {text[:_CHARS]}" if text and not _CRYPTIC.search(text) else ""
