"""What publishers say, in every spelling that a standard has: our answer to each case, and those of other readers.

Ours is that of the product: the client and its keeper for files, `discover` for pages (read as pages and as video
pages) and for feeds (by each of their parsers).
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.bench import consent_peers
from pipeline.bench.consent_site import FEED_PATHS, Case, Sites, read_cases
from pipeline.bench.report import Bench, Line
from pipeline.curate.fetch import http
from pipeline.curate.fetch.discover import DiscoverConfig, Kind, discover
from pipeline.curate.stage import Leave

_PATIENT = http.FetchConfig(
    timeout_s=120,  # of a machine that others use; only a server that never answers is waited for less
    retries=0,
    backoff_s=0.01,
    per_host_interval_s=0,
    max_wait_s=1,
    allow_private=("127.0.0.0/8",),
)
_PATIENCE_S = 300


@dataclass(frozen=True, kw_only=True)
class Consent(Bench):
    """Every case of consent, ours and those of other readers."""

    peers: str = sys.executable
    """A Python that has scrapy and img2dataset, and is not this project's; without it only urllib.robotparser runs."""


def measure(config: Consent) -> Iterator[Line]:
    """For each group, how many of its answers are right, and how often what is refused was taken all the same; then
    each case."""
    cases = read_cases()
    with Sites(cases) as sites:
        ours = answers(cases, sites)
        peers = _peers(config.peers, [sites.url(case) for case in cases])
        said = [{"triptych": answer} | _words(peers, sites.url(case)) for case, answer in zip(cases, ours, strict=True)]
    for group in (*dict.fromkeys(case.group for case in cases), "all"):
        inside = [pair for pair in zip(cases, said, strict=True) if group in (pair[0].group, "all")]
        right = {name: sum(_is_right(case, name, words[name]) for case, words in inside) for name in said[0]}
        yield {"right in": group, "cases": len(inside)} | right
    refused = [words for case, words in zip(cases, said, strict=True) if not case.right.startswith("allowed")]
    taken = {name: sum(words[name].startswith("allowed") for words in refused) for name in said[0]}
    yield {"taken though refused": "all", "cases": len(refused)} | taken
    for case, words in zip(cases, said, strict=True):
        yield {"group": case.group, "case": case.name, "right": case.right} | words | {"source": case.source}


def _words(peers: dict[str, dict[str, bool]], url: str) -> dict[str, str]:
    return {name: "allowed" if had[url] else "refused" for name, had in peers.items()}


def _is_right(case: Case, name: str, answer: str) -> bool:
    """Of the others only whether they had it: none says why, and none notes a licence."""
    return answer == case.right if name == "triptych" else (answer == "allowed") == case.right.startswith("allowed")


def answers(cases: list[Case], sites: Sites) -> list[str]:
    """What the product says to each case: `allowed`, a reason, or, where its ways differ, that of each."""
    http.forget()
    files = [case for case in cases if case.group not in ("pages", "feeds")]
    had = iter(asyncio.run(_files(files, sites)))
    return [next(had) if case in files else _listing(case, sites) for case in cases]


async def _files(cases: list[Case], sites: Sites) -> list[str]:
    async with http.Client(_PATIENT) as patient, http.Client(replace(_PATIENT, timeout_s=1)) as hasty:

        async def one(case: Case) -> str:
            try:
                await (hasty if case.stalls else patient).get(sites.url(case))
            except Leave as leave:
                return leave.reason
            return "allowed"

        return await asyncio.gather(*map(one, cases))


def _listing(case: Case, sites: Sites) -> str:
    ways: list[tuple[Kind, str | None]] = [("page", None), ("video_page", None)]
    if case.group == "feeds":
        ways = [("feed", path) for path in FEED_PATHS]
    said = [_read(kind, sites.url(case, path)) for kind, path in ways]
    return said[0] if len(set(said)) == 1 else " / ".join(said)


def _read(kind: Kind, url: str) -> str:
    rows = discover(url, kind, DiscoverConfig(fetch=_PATIENT))
    reasons = [str(row["reason"] or "allowed") for row in rows]
    license = next((f", {row['license']}" for row in rows if row["license"]), "")
    return (reasons[0] if len(set(reasons)) == 1 else " + ".join(reasons)) + license


def _peers(python: str, urls: list[str]) -> dict[str, dict[str, bool]]:
    """Answers of the peers that this Python has; ValueError if it cannot run them."""
    script = Path(consent_peers.__file__)
    try:
        done = subprocess.run(
            [python, str(script)],
            input=json.dumps(urls),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(f"--peers {python} cannot run {script}: {error}") from error
    return json.loads(done.stdout)
