"""Revocation: what must not be kept any longer, and must not be fetched again.

Guarantees: a revocation is recorded first and never forgotten, so a run that is cut short while it obeys one goes on to
obey it (`forget`). Rows are matched by host (of the file, any transcript that it offers or its page, subdomains
included), URL in any spelling, key (of a row or of its input), license, or digest of their content. What is the same
content as a revoked row is a copy of it and goes as well, wherever it was found: who takes a picture back means the
picture.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal
from urllib.parse import urlsplit

import pyarrow as pa

from pipeline.curate.fetch.address import canonical
from pipeline.curate.fetch.tracks import from_column
from pipeline.curate.journal import REVOCATIONS, Journal
from pipeline.curate.stage import Leave, Row
from pipeline.manifest import of_kind
from pipeline.records import CONTENT, revocation_name
from pipeline.redact import redacted_text, redacted_url

Kind = Literal["host", "url", "key", "license", "sha256"]
BEFORE = "revoked_before_fetch"
AFTER = "revoked"
COPY = "revoked_copy"
_URLS = ("url", "page_url", "transcript_url")
COLUMNS = ("key", "input_key", *_URLS, "more_transcripts", "license", *CONTENT)
"""Columns of rows that revocations look at."""


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """One revocation: `note` says who asked for it."""

    kind: Kind
    value: str
    note: str = ""

    @cached_property
    def values(self) -> frozenset[str]:
        """Every spelling of the value that rows are compared with."""
        if self.kind == "host":
            return frozenset({_host(self.value)})
        if self.kind == "license":
            return frozenset({_license(self.value)})
        return _spellings(self.value) if self.kind == "url" else frozenset({self.value.strip()})

    def matches(self, row: Row) -> bool:
        """True if it concerns this row."""
        return _matches(row, {self.kind: self.values})


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What turned out to hold the content of revoked rows: digests of it, and keys of inputs."""

    kind: Literal["copies"] = "copies"
    sha256: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Revoked:
    """All that was revoked in a run: by request, and as copies of what was requested."""

    revocations: tuple[Revocation, ...] = ()
    copies: frozenset[str] = field(default_factory=frozenset)
    """Digests of the content of rows that were revoked."""
    inputs: frozenset[str] = field(default_factory=frozenset)
    """Keys of inputs that turned out to be such a copy: what was cut from them goes with them."""

    def __bool__(self) -> bool:
        return bool(self.revocations)

    @cached_property
    def _values(self) -> dict[Kind, frozenset[str]]:
        kinds = {revocation.kind for revocation in self.revocations}
        return {kind: frozenset().union(*(r.values for r in self.revocations if r.kind == kind)) for kind in kinds}

    def is_requested(self, row: Row) -> bool:
        """True if a revocation names the row."""
        return _matches(row, self._values)

    def is_copy(self, row: Row) -> bool:
        """True if the row holds what a revoked row held."""
        return any(row.get(name) in self.inputs for name in ("key", "input_key")) or bool(self.copies & contents(row))

    def reasons(self, table: pa.Table) -> list[str | None]:
        """Of each row why it must go, or None."""
        if not self:
            return [None] * table.num_rows
        rows = table.select([name for name in COLUMNS if name in table.column_names]).to_pylist()
        return [AFTER if self.is_requested(row) else COPY if self.is_copy(row) else None for row in rows]

    def to_json(self) -> list[object]:
        """What the verdicts of a run depend on."""
        return [[asdict(revocation) for revocation in self.revocations], sorted(self.copies), sorted(self.inputs)]


def contents(row: Row) -> frozenset[str]:
    """The digests of what a row holds."""
    return frozenset(digest for name in CONTENT if (digest := row.get(name)))


def recorded(journal: Journal) -> Revoked:
    """All that was revoked in a run, in the order of its record."""
    records = [_record(journal, name) for name in _names(journal)]
    copies = [record for record in records if isinstance(record, Copies)]
    return Revoked(
        revocations=tuple(record for record in records if isinstance(record, Revocation)),
        copies=frozenset(digest for record in copies for digest in record.sha256),
        inputs=frozenset(key for record in copies for key in record.inputs),
    )


def _names(journal: Journal) -> list[str]:
    """The records there are, read together."""
    names = journal.names(REVOCATIONS)
    journal.read(names)
    return names


def _record(journal: Journal, name: str) -> Revocation | Copies:
    entries = journal.find(name, dict) or {}
    if entries.get("kind") == "copies":
        return of_kind(journal.store, name, entries, Copies)
    return of_kind(journal.store, name, entries, Revocation)


def record(journal: Journal, revocation: Revocation) -> bool:
    """Record a revocation; False if it was recorded before. A secret in a URL is not recorded with it."""
    revocation = Revocation(
        kind=revocation.kind, value=redacted_text(revocation.value), note=redacted_text(revocation.note)
    )
    if any((old.kind, old.value) == (revocation.kind, revocation.value) for old in recorded(journal).revocations):
        return False
    _append(journal, revocation)
    return True


def record_copies(journal: Journal, sha256: Iterable[str], inputs: Iterable[str]) -> None:
    """Record what is a copy of revoked content, so that it stays away when it is found again."""
    _append(journal, Copies(sha256=tuple(sorted(sha256)), inputs=tuple(sorted(inputs))))


def mark(table: pa.Table, revoked: Revoked, *, only: str | None, reason: str | None = None) -> pa.Table:
    """Let revoked rows leave as *dropped*, for `reason` or their own, if their state is `only`."""
    states = table["state"].to_pylist()
    reasons = [why if state == only else None for why, state in zip(revoked.reasons(table), states, strict=True)]
    if not any(reasons):
        return table
    for name, new in (
        ("state", ["dropped" if why else None for why in reasons]),
        ("reason", [(reason or why) if why else None for why in reasons]),
    ):
        values = [after or before for after, before in zip(new, table[name].to_pylist(), strict=True)]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return table


def _matches(row: Row, values: dict[Kind, frozenset[str]]) -> bool:
    if any(row.get(name) in values.get("key", ()) for name in ("key", "input_key")):
        return True
    if any(row.get(name) in values.get("sha256", ()) for name in CONTENT):
        return True
    if "license" in values and _license(row.get("license") or "") in values["license"]:
        return True
    urls = [url for name in _URLS if (url := row.get(name))]
    urls += [track.url for track in from_column(row.get("more_transcripts"))]
    if "host" in values and any(_is_within(_host_of(url), values["host"]) for url in urls):
        return True
    return "url" in values and any(url in values["url"] or values["url"] & _spellings(url) for url in urls)


def _is_within(host: str, domains: frozenset[str]) -> bool:
    labels = host.split(".")
    return any(".".join(labels[i:]) in domains for i in range(len(labels)))


def _append(journal: Journal, entry: Revocation | Copies) -> None:
    while True:
        names = journal.names(REVOCATIONS)
        last = int(names[-1].removeprefix("revocations/").removesuffix(".json")) if names else -1
        if journal.create(revocation_name(last + 1), entry):
            return


def _host(name: str) -> str:
    name = name.strip().rstrip(".").lower()
    try:
        return name.encode("idna").decode() if not name.isascii() else name
    except UnicodeError:
        return name


def _host_of(url: str) -> str:
    try:
        return _host(urlsplit(url).hostname or "")
    except ValueError:  # `http://[x`: it leads nowhere, and names no host
        return ""


def _license(text: str) -> str:
    return redacted_text(" ".join(text.split()).casefold())


def _spellings(url: str) -> frozenset[str]:
    """A URL as it was given, as we ask for it, and as rows carry it, without the secrets in it."""
    try:
        asked = canonical(url)
    except Leave:
        asked = url.strip()
    return frozenset({url, asked, redacted_url(url.strip()), redacted_url(asked)})
