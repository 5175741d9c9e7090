"""What a curation run writes down: a dataclass for each kind of manifest and record. Their names are in `records`.

On disk each is a sealed JSON object with the fields' names as its keys. Options of filters and stages, which are
whatever dataclasses users write, stay JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.config import NULL
from pipeline.manifest import Manifest
from pipeline.ranges import check_range
from pipeline.storage import File


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of a wave, in two files of as many rows: `payload` has their media and words, `scores` all else."""

    scores: File
    payload: File


@dataclass(frozen=True, kw_only=True)
class ListingRows:
    """How many rows a listing gave when it was first read; its `source` is without secrets."""

    source: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class InputsManifest(Manifest):
    """The inputs of a run; they are those of its listings, one after the other."""

    listings: tuple[ListingRows, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedWave:
    """Inputs that commit together: how many, what they are estimated to cost (1 = a usual input), whose keys they
    are."""

    rows: int
    cost: float
    keys_sha256: str


@dataclass(frozen=True, kw_only=True)
class PlanManifest(Manifest):
    """The waves of a round, in order; `files` holds the rows that a later round works on, again or for the first
    time."""

    waves: tuple[PlannedWave, ...]
    inputs_sha256: str | None = None
    """Digest of the keys of round 0, longest first."""
    replaces: tuple[str, ...] | None = None
    """Of a round of new inputs, be it none: keys of listings' rows for which its inputs stand."""


@dataclass(frozen=True, kw_only=True)
class WaveManifest(Manifest):
    """A committed wave; `files` holds its parts, scores and payload in turn."""

    round: int
    wave: int
    inputs: int
    counts: dict[str, int]
    """Rows by unit/state/reason."""
    keys: tuple[str, ...] | None = None
    """Of a later round, the inputs that it worked on again."""
    epoch: int | None = None
    """Of the lease under which it was committed."""

    @property
    def parts(self) -> list[Part]:
        """Its parts, in its order."""
        pairs = zip(self.files[::2], self.files[1::2], strict=True)
        return [Part(scores=scores, payload=payload) for scores, payload in pairs]


@dataclass(frozen=True, kw_only=True)
class VerdictManifest(Manifest):
    """A decided table, and the rules that it was decided by, as `decide.describe` gives them."""

    rules: tuple[dict[str, object], ...]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How the kept rows are cut into files."""

    shard_rows: int = 2048
    """Rows of a shard; the last has fewer."""
    row_group_rows: int = 64
    """Rows that a reader fetches at once; small enough that shuffled training reads little it does not use."""
    webdataset: bool = False
    """Write each shard as a WebDataset tar as well."""

    def __post_init__(self) -> None:
        check_range(self, "shard_rows", "row_group_rows", low=1)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What an export holds: the kept rows of a unit of the verdicts of that name, with these columns, cut `as_`."""

    verdicts: str
    unit: str
    columns: tuple[str, ...]
    as_: ExportConfig


@dataclass(frozen=True, kw_only=True)
class ShardFiles:
    """The files of one shard: `made_of` is the digest of all that its bytes depend on."""

    index: int
    made_of: str
    file: File
    tar: File | None = field(metadata=NULL)


@dataclass(frozen=True, kw_only=True)
class ExportManifest(Manifest):
    """An export; `files` holds its Parquet shards in order, `webdataset` their tars."""

    made_from: Selection
    rows: int
    keys_sha256: str
    webdataset: tuple[File, ...]
    shards: tuple[ShardFiles, ...]
    index: File
    card: File

    @property
    def data(self) -> list[File]:
        """Every file but the card."""
        return [*self.files, *self.webdataset, self.index]


@dataclass(frozen=True, kw_only=True)
class Book:
    """Where the rows of a unit ended: `in_` of them went in, and left in each state by reason."""

    in_: int
    kept: int
    dropped: dict[str, int]
    failed: dict[str, int]
    unknown: dict[str, int]
    deferred: dict[str, int]
    hours: dict[str, float]
    """State -> hours of media."""
    bytes: dict[str, int]
    """State -> bytes."""

    @property
    def gone(self) -> Mapping[str, Mapping[str, int]]:
        """State -> reason -> rows, for every state but kept."""
        return {
            "dropped": self.dropped,
            "failed": self.failed,
            "unknown": self.unknown,
            "deferred": self.deferred,
        }

    def balances(self) -> bool:
        """True if every row that went in ended in exactly one state."""
        return self.in_ == self.kept + sum(sum(reasons.values()) for reasons in self.gone.values())


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Where every row of a finished run ended, unit by unit, and what it was made of."""

    verdicts: str
    unit: str
    """What an input is a row of."""
    exported_rows: int
    steps: dict[str, Book]
    export_sha256: str
    """Of the export's manifest."""
    rounds: int = 1
    revocations: int = 0


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """All that the rows of a run depend on, beside its inputs' content: a run is bound to it.

    One that another version recorded may have other entries, so what is read back stays JSON and is only compared.
    """

    job: str
    sources: tuple[str, ...]
    stages: dict[str, dict[str, object]]
    """Place and name of a stage -> its fields and what else its rows depend on."""
    unit: str
    renamed: dict[str, str]
    waves: dict[str, object]
    schema: dict[str, str]
    code: dict[str, str]
    libraries: dict[str, str]
    inputs: str
    """Digest of the inputs' keys."""
