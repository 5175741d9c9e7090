"""What a run has committed, read once: a command opens a journal, and its steps hand it on.

Guarantees: each manifest and record is read from the store at most once a journal, when it is first asked for, and what
this driver commits is known from then on without reading it back. A journal is true for as long as nobody else writes:
so whoever changes a run opens it once the lease is held, and a driver that was succeeded finds out at `Lease.check`
before it commits or deletes. An object that cannot be read is a CorruptFileError each time that it is asked for.
Costs: one listing of the run; of each manifest some kB of memory.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.curate.manifests import (
    ExportManifest,
    InputsManifest,
    Ledger,
    PlanManifest,
    VerdictManifest,
    WaveManifest,
)
from pipeline.manifest import Manifest, of_kind, sealed, unsealed
from pipeline.records import EXPORT, INPUTS, LEDGER
from pipeline.storage import TEMPORARY, CorruptFileError, Store

T = TypeVar("T")

PLANS = r"plan\.json|plans/\d{3,}\.json"
WAVES = r"waves/\d{3,}-\d{6,}\.json"
VERDICTS = r"verdicts/[0-9a-f]{12}\.json"
FINGERPRINTS = r"fingerprints/\d{3,}\.json"
REVOCATIONS = r"revocations/\d{6,}\.json"
MANIFESTS: dict[str, type[Manifest]] = {
    re.escape(INPUTS): InputsManifest,
    PLANS: PlanManifest,
    WAVES: WaveManifest,
    VERDICTS: VerdictManifest,
    re.escape(EXPORT): ExportManifest,
}
"""Form of the names under which a curation run commits files -> what lies there."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An object as it was read or written: what it says, and the digest of its bytes."""

    value: object
    sha256: str
    is_restyled: bool
    """It says what it said, though not in the bytes that were written: without its last line end, say."""


@dataclass
class Journal:
    """The manifests and records of a run."""

    store: Store
    _entries: dict[str, Entry | CorruptFileError | None] = field(default_factory=dict)
    _sizes: dict[str, int] | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Name -> bytes of what was there when it was first asked for, and of manifests and records since."""
        if self._sizes is None:
            self.refresh()
        return self._sizes or {}

    def refresh(self) -> list[str]:
        """List the run anew, while what was read stays read; returns what dead writers left unfinished."""
        names = self.store.sizes(temporary=None)
        self._sizes = {name: size_bytes for name, size_bytes in names.items() if TEMPORARY not in name}
        return [name for name in names if name not in self._sizes]

    def names(self, form: str) -> list[str]:
        """Names of this form that are there, sorted."""
        return sorted(name for name in self.sizes if re.fullmatch(form, name))

    def read(self, names: Iterable[str]) -> None:
        """Read these objects at the same time, those that were not read yet."""
        missing = [name for name in names if name not in self._entries]
        for name, data in self.store.read_many(missing).items():
            self._entries[name] = self._entry(name, data)

    def entry(self, name: str) -> Entry | None:
        """An object; None if it is not there, CorruptFileError if it was altered or is none of its kind."""
        if name not in self._entries:
            self._entries[name] = None
            if self._sizes is None or name in self._sizes:
                with contextlib.suppress(FileNotFoundError):
                    self._entries[name] = self._entry(name, self.store.read(name))
        entry = self._entries[name]
        if isinstance(entry, CorruptFileError):
            raise CorruptFileError(*entry.args)
        return entry

    def find(self, name: str, kind: type[T]) -> T | None:
        """What an object says; None if it is not there."""
        entry = self.entry(name)
        if entry is None:
            return None
        assert isinstance(entry.value, kind), f"{name} is a {type(entry.value).__name__}, not a {kind.__name__}"
        return entry.value

    def all(self, form: str, kind: type[T]) -> list[T]:
        """What all objects say whose names are of this form, in the order of the names."""
        names = self.names(form)
        self.read(names)
        return [value for name in names if (value := self.find(name, kind)) is not None]

    def create(self, name: str, value: object) -> bool:
        """Commit an object; False if there was one already, which then stands."""
        data = sealed(value)
        if not self.store.create(name, data):
            self.drop(name)
            return False
        self._keep(name, data)
        return True

    def replace(self, name: str, value: object) -> None:
        """Put an object in the place of the one that is there, unless the very bytes are there already."""
        data = sealed(value)
        try:
            entry = self.entry(name)
        except CorruptFileError:
            entry = None
        if entry is None or entry.sha256 != hashlib.sha256(data).hexdigest():
            self.store.write(name, data)
            self._keep(name, data)

    def drop(self, *names: str) -> None:
        """Forget what is known of these objects: they may be other ones now."""
        for name in names:
            self._entries.pop(name, None)
        self._sizes = None

    def delete(self, name: str) -> None:
        """Delete an object or a folder."""
        self.store.delete(name)
        self._entries.pop(name, None)
        self.sizes.pop(name, None)

    def _keep(self, name: str, data: bytes) -> None:
        self._entries[name] = self._entry(name, data)
        if self._sizes is not None:
            self._sizes[name] = len(data)

    def _entry(self, name: str, data: bytes) -> Entry | CorruptFileError:
        try:
            json = unsealed(self.store, name, data)
            return Entry(
                value=self._value(name, json),
                sha256=hashlib.sha256(data).hexdigest(),
                is_restyled=sealed(json) != data,
            )
        except CorruptFileError as error:
            return error

    def _value(self, name: str, json: dict[str, object]) -> object:
        """What an object says, as its kind; a record without a kind as JSON."""
        kinds = {**MANIFESTS, re.escape(LEDGER): Ledger}
        kind = next((kind for form, kind in kinds.items() if re.fullmatch(form, name)), None)
        return json if kind is None else of_kind(self.store, name, json, kind)
