"""Take back what must not be kept: recorded, taken out of the waves and the export, never fetched again.

python -m jobs.revoke RUN --host example.org
python -m jobs.revoke RUN --url https://example.org/a.png --key 0f3a… --license CC-BY-NC-4.0 --note "mail of 3 May"
"""

from dataclasses import dataclass
from typing import get_args

import pyarrow as pa
import pyarrow.compute as pc

from jobs._curations import open_curation
from jobs._main import run
from jobs._ray import ray_session
from pipeline.curate import audit, export, forget
from pipeline.curate.journal import Journal
from pipeline.curate.revoke import Kind, Revocation
from pipeline.curate.run import summary
from pipeline.lease import hold
from pipeline.log import say
from pipeline.redact import redacted_text
from pipeline.storage import CorruptFileError


@dataclass(frozen=True, kw_only=True)
class Revoke:
    """Revoke rows of a curation run, and whatever else in it holds the same content; each option may name several."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    host: tuple[str, ...] = ()
    """Hosts of files, transcripts or pages, with their subdomains."""
    url: tuple[str, ...] = ()
    """URLs of files, transcripts or pages, in any spelling."""
    key: tuple[str, ...] = ()
    """Keys of rows, or of the inputs that they were made from."""
    license: tuple[str, ...] = ()
    """Licenses, as the sources wrote them; case and spaces do not matter."""
    sha256: tuple[str, ...] = ()
    """Digests of files as they were fetched, or of clips."""
    note: str = ""
    """Who asked for it; kept with the record."""
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""


def main(config: Revoke) -> None:
    """Say what each argument hits, record, and obey; nothing is recorded if one of them hits nothing."""
    wanted = [
        Revocation(kind=kind, value=value, note=config.note)
        for kind in get_args(Kind)
        for value in getattr(config, kind)
    ]
    if not wanted:
        raise ValueError("nothing to revoke; name a --host, --url, --key, --license or --sha256")
    store, job, curation = open_curation(config.run_dir)
    with hold(store) as lease:
        journal = Journal(store)
        audit.check(journal, but="revocations/")  # one that was lost is mended by revoking the same again
        _tell(journal, wanted)
        with ray_session(job.ray, verbose=config.verbose):
            summary(curation.name, curation.revoke(store, wanted, lease, journal=journal))


def _tell(journal: Journal, wanted: list[Revocation]) -> None:
    hits = forget.hits(journal, wanted)
    # All or nothing: a slip of the pen must not leave half of a request obeyed.
    missed = [
        f"--{revocation.kind} {redacted_text(revocation.value)}"
        for revocation, hit in zip(wanted, hits, strict=True)
        if not (hit.keys or hit.inputs)
    ]
    if missed:
        raise ValueError(
            f"{' and '.join(missed)}: no input or row of {journal.store.url} is named so, and nothing was revoked; "
            "jobs.rows lists what there is"
        )
    index = _index(journal)
    for revocation, hit in zip(wanted, hits, strict=True):
        files = set(hit.files)
        if index is not None:
            exported = index.filter(pc.is_in(index["key"], pa.array(hit.keys, pa.string())))
            files |= {path for name in ("shard", "tar") for path in exported[name].to_pylist() if path}
        named = f"--{revocation.kind} {redacted_text(revocation.value)}"
        say(f"{named}: {hit.inputs} inputs, {len(hit.keys)} rows, in {len(files)} files")


def _index(journal: Journal) -> pa.Table | None:
    try:
        return export.read_index(journal)
    except CorruptFileError:  # it was damaged, and is made again with the export
        return None


if __name__ == "__main__":
    run(Revoke, main, "run-dir")
