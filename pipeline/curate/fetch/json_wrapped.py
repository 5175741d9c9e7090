"""Records within one JSON value: under a key, by columns, by their ids, or as arrays.

`{"annotations": [{...}]}` of RedCaps, `{"image_urls": [...], "captions": [...]}` of SBU, what pandas writes in each of
its orientations, `{"URL": "caption"}`, and `[["URL", "caption"]]`.
"""

from collections.abc import Iterable, Mapping, Sequence

from pipeline.curate.fetch.columns import ListConfig

Entry = Mapping[str, object]


def unwrapped(value: object, config: ListConfig) -> Sequence[Entry] | None:
    """The records in a value; None if it wraps none, or is one itself."""
    if isinstance(value, list):
        return _pairs(value)
    if not isinstance(value, Mapping):
        return None
    if column := _url_column(value, config):
        if isinstance(value[column], str) or (entries := _of_columns(value, column)):
            return None if isinstance(value[column], str) else entries
    names, rows = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(rows, list):
        return [dict(zip(map(str, names), row, strict=False)) for row in rows if isinstance(row, list)]
    if value and all(isinstance(key, str) and _is_url(key) for key in value):
        return [{"url": key, "caption": caption} for key, caption in value.items()]
    lists = [entries for one in (value.values(), *value.values()) if (entries := _records(one, config))]
    return max(lists, key=len, default=None)


def _url_column(value: Entry, config: ListConfig) -> str | None:
    try:
        return config.fields(value).get("url")
    except KeyError:
        return None


def _records(values: object, config: ListConfig) -> list[Entry]:
    """The values if they are objects with a URL; else none."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        return []
    entries = [value for value in values if isinstance(value, Mapping)]
    is_whole = entries and len(entries) == len(list(values)) and _url_column(entries[0], config)
    return entries if is_whole else []


def _of_columns(value: Entry, column: str) -> list[Entry] | None:
    columns = {name: list(one.values()) if isinstance(one, Mapping) else one for name, one in value.items()}
    urls = columns[column]
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        return None
    alike = {name: one for name, one in columns.items() if isinstance(one, list) and len(one) == len(urls)}
    if len(alike) < 2:
        return None
    return [dict(zip(alike, row, strict=True)) for row in zip(*alike.values(), strict=True)]


def _pairs(values: list[object]) -> list[Entry] | None:
    """URL and caption of arrays of two."""
    entries: list[Entry] = []
    for value in values:
        if not (isinstance(value, list) and len(value) == 2 and sum(map(_is_url, value)) == 1):
            return None
        url, caption = value if _is_url(value[0]) else value[::-1]
        entries.append({"url": url, "caption": caption})
    return entries


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))
