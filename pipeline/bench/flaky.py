"""A run on S3 of which a share of all requests is answered 503 or reset: does it end, and how much slower?"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from pipeline.bench.command import run
from pipeline.bench.report import Bench, Line
from pipeline.chaos.cluster import S3_KEYS, moto_server
from pipeline.chaos.proxy import FaultProxy, Rule
from pipeline.chaos.verify import Findings, compare, examine
from pipeline.storage import Store

_STARTS = 20  # of one rate, on top of the first of each run


@dataclass(frozen=True, kw_only=True)
class Flaky(Bench):
    """Runs at several rates of failing requests, each compared with an unharmed one."""

    rates: tuple[float, ...] = (0.05, 0.2)
    """Shares of storage requests that fail; 0 comes first."""
    rounds: int = 3
    """Number of runs at each rate; the median is shown."""


@dataclass(kw_only=True)
class _Rate:
    """What the runs at one rate came to."""

    seconds: list[float]
    requests: int = 0
    harmed: int = 0
    started_again: int = 0
    findings: Findings | None = None
    """Of the last run."""


def measure(config: Flaky, command: str) -> Iterator[Line]:
    """One line for each rate."""
    with moto_server() as upstream, FaultProxy(upstream) as proxy:
        os.environ.update(S3_KEYS, AWS_ENDPOINT_URL=proxy.url)
        import s3fs  # reads the environment

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("flaky")
        # Through the proxy as well: the slowdown is that of the failures alone.
        unharmed = _runs(command, proxy, 0.0, config.rounds)
        yield _line(0.0, unharmed, unharmed)
        for rate in config.rates:
            yield _line(rate, _runs(command, proxy, rate, config.rounds), unharmed)


def _runs(command: str, proxy: FaultProxy, rate: float, rounds: int) -> _Rate:
    result = _Rate(seconds=[])
    for number in range(rounds):
        url = f"s3://flaky/{rate}-{number}"
        # Seeded by the round: its failures can be had again.
        proxy.arm(Rule(rate=rate, seed=number))
        began_s = time.monotonic()
        # A run may give up; its user then gives the command again.
        while run(command, url).returncode and result.started_again < _STARTS:
            result.started_again += 1
        result.seconds.append(time.monotonic() - began_s)
        result.harmed += proxy.harmed
        result.requests += len(proxy.seen)
        # Reading back is not to fail.
        proxy.arm()
        result.findings = examine(Store(url))
    return result


def _line(rate: float, result: _Rate, unharmed: _Rate) -> Line:
    assert result.findings is not None and unharmed.findings is not None
    lost, duplicated = compare(result.findings, unharmed.findings)
    return {
        "rate": rate,
        "runs": len(result.seconds),
        "requests": result.requests,
        "harmed": result.harmed,
        "started_again": result.started_again,
        "rows_lost": lost,
        "rows_duplicated": duplicated,
        "exports_equal": result.findings.exported == unharmed.findings.exported,
        "median_s": round(median(result.seconds), 1),
        "slowdown": round(median(result.seconds) / median(unharmed.seconds), 2),
    }
