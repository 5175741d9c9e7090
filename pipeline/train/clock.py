"""Where the time of a step goes, and how fast, full and busy the machine is.

Costs nothing that training would wait for: a GPU is asked only for what it has finished, at the one moment of a step at
which its sums are read anyway.
"""

import resource
import sys
import time

import torch


class Stopwatch:
    """Seconds spent inside `with watch:`. On a GPU the seconds of its queue between the two ends, not of the host."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._total_s = 0.0
        self._pairs: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __enter__(self) -> None:
        if self._on_gpu:
            self._pairs.append((torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)))
            self._pairs[-1][0].record()
        else:
            self._start = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        if self._on_gpu:
            self._pairs[-1][1].record()
        else:
            self._total_s += time.perf_counter() - self._start

    def read(self) -> float:
        """The seconds since the last `read`; on a GPU only after something that came later was waited for."""
        total_s, self._total_s = self._total_s, 0.0
        total_s += sum(start.elapsed_time(end) for start, end in self._pairs) / 1000
        self._pairs.clear()
        return total_s


class Clock:
    """Wall time of each part of a step, and amounts of work per second."""

    def __init__(self) -> None:
        self._laps: dict[str, float] = {}
        self._work: dict[str, float] = {}
        self._steps = 0
        self._start = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap went into `name`."""
        now = time.perf_counter()
        self._laps[name] = self._laps.get(name, 0.0) + now - self._last
        self._last = now

    def shift(self, seconds: float, *, of: str, to: str) -> None:
        """Of the time put down under `of`, `seconds` went into `to`."""
        seconds = min(seconds, self._laps[of])  # a GPU's clock and ours differ a little
        self._laps[of] -= seconds
        self._laps[to] = self._laps.get(to, 0.0) + seconds

    def step(self, **work: float) -> None:
        """One step was done, with these amounts of work."""
        self._steps += 1
        for name, amount in work.items():
            self._work[name] = self._work.get(name, 0.0) + amount

    def split(self) -> dict[str, float]:
        """Since the last call: mean seconds of a step and of its parts, and each amount of work per second."""
        steps, elapsed = max(1, self._steps), time.perf_counter() - self._start
        times = {"step_s": elapsed / steps} | {f"{name}_s": total / steps for name, total in self._laps.items()}
        rates = {f"{name}_per_s": amount / elapsed for name, amount in self._work.items() if amount}
        self._laps.clear()
        self._work.clear()
        self._steps = 0
        self._start = time.perf_counter()
        return times | rates


def memory_gb(device: torch.device) -> dict[str, float]:
    """The most memory (10^9 bytes) that this process has held so far: `peak_rss_gb` of the host; `peak_memory_gb` of
    the device, which is torch's on a GPU, without its cache, and the host's on a CPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    rss_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    device_gb = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else rss_gb
    return {"peak_rss_gb": rss_gb, "peak_memory_gb": device_gb}


def matmul_flops(device: torch.device, dtype: torch.dtype, rounds: int = 5) -> float:
    """Floating-point operations per second of the best of `rounds` large matrix products: the peak that MFU refers
    to."""
    n, products = (8192, 8) if device.type == "cuda" else (512, 1)
    a = torch.randn(n, n, device=device).to(dtype)  # no constants: a GPU is faster on them, as they cost less power
    b = torch.randn(n, n, device=device).to(dtype)
    best_s = float("inf")
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(products):
            c = a @ b
        c[0, 0].item()  # waits for a GPU
        best_s = min(best_s, time.perf_counter() - start)
    return 2 * n**3 * products / best_s
