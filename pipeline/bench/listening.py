"""A supervisor between the training loop and a run's own, for benchmarks that look at each step."""

from collections.abc import Callable

from pipeline.train.loop import Supervisor


class ListeningSupervisor(Supervisor):
    """Passes on what the loop says, and calls `listen` with the number of each step that is done."""

    def __init__(self, supervisor: Supervisor, listen: Callable[[int], None]) -> None:
        self._supervisor = supervisor
        self._listen = listen

    def resumed(self, step: int) -> None:
        """Pass it on."""
        self._supervisor.resumed(step)

    def progress(self, step: int, loss: float) -> None:
        """Pass it on, and listen."""
        self._supervisor.progress(step, loss)
        self._listen(step)

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Pass it on."""
        self._supervisor.measured(step, values)

    def checkpointed(self, step: int, path: str) -> None:
        """Pass it on."""
        self._supervisor.checkpointed(step, path)

    def should_checkpoint(self) -> bool:
        """What the run's own supervisor says."""
        return self._supervisor.should_checkpoint()
