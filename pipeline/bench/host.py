"""A host between the training loop and a run's own, for benchmarks that look at each step."""

from collections.abc import Callable

from pipeline.train.loop import Host


class ListeningHost(Host):
    """Passes on what the loop says, and calls `listen` with the number of each step that is done."""

    def __init__(self, host: Host, listen: Callable[[int], None]) -> None:
        self._host, self._listen = host, listen

    def resumed(self, step: int) -> None:
        """Pass it on."""
        self._host.resumed(step)

    def progress(self, step: int, loss: float) -> None:
        """Pass it on, and listen."""
        self._host.progress(step, loss)
        self._listen(step)

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Pass it on."""
        self._host.measured(step, values)

    def checkpointed(self, step: int, path: str) -> None:
        """Pass it on."""
        self._host.checkpointed(step, path)

    def should_checkpoint(self) -> bool:
        """What the run's own host says."""
        return self._host.should_checkpoint()
