"""Lists that the user names by a path: files, or folders of them, on this machine or on any fsspec store.

Only the command line may name such a list. What is written in one names URLs of the web, and nothing else.
"""

import os
import re

from pipeline.curate.fetch.unpack import TooLargeError
from pipeline.storage import Store

_WEB = re.compile(r"https?:", re.IGNORECASE)
_LISTS = re.compile(
    r"(?!.*(?:^|/)[._]).*\.(?:parquet|csv|tsv|txt|jsonl?|ndjson)(?:\.(?:gz|bz2|xz|zst))?", re.IGNORECASE
)


def is_web(url: str) -> bool:
    """True for what the fetcher asks for, under the web's manners."""
    return _WEB.match(url) is not None


def files(path: str) -> list[str]:
    """The file itself, or the lists in a folder and below, in the order of their names.

    ValueError, in one line, if there is none, or if nothing here can read such a path.
    """
    if re.search(r"https?:", path, re.IGNORECASE):
        raise ValueError(f"{path!r} reaches the web past its manners; name the list by its URL alone")
    folder, name = _split(path)
    try:
        if name and Store(folder).exists(name):
            return [path]
        store = Store(_whole(path))
        names = [name for name in store.list() if _LISTS.fullmatch(name)]
    except (OSError, ImportError, ValueError) as error:
        raise ValueError(f"cannot read the list {path!r}: {getattr(error, 'strerror', None) or error}") from error
    if not names:
        raise ValueError(f"there is no list {path!r}; name a file, or a folder of .parquet, .csv, .jsonl or .txt files")
    return [f"{path.rstrip('/')}/{name}" for name in names]


def read(path: str, max_bytes: int) -> bytes:
    """All bytes of a file; TooLargeError beyond `max_bytes`."""
    folder, name = _split(path)
    store = Store(folder)
    size_bytes = store.size_bytes(name)
    if size_bytes > max_bytes:
        raise TooLargeError(f"file of {size_bytes} bytes, more than {max_bytes}")
    return store.read(name)


def _split(path: str) -> tuple[str, str]:
    folder, _, name = _whole(path).rpartition("/")
    return folder or "/", name


def _whole(path: str) -> str:
    """A path of this machine without what depends on the working directory."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path)) + ("/" if path.endswith("/") else "")
