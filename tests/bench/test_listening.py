from pipeline.bench.listening import ListeningSupervisor
from pipeline.train.loop import Supervisor


def test_whatever_the_loop_says_reaches_the_host_of_the_run():
    calls = []

    class Recording(Supervisor):
        def __getattribute__(self, name):
            return lambda *args: calls.append((name, *args)) or name

    steps = []
    supervisor = ListeningSupervisor(Recording(), steps.append)
    supervisor.resumed(3)
    supervisor.progress(4, 0.5)
    supervisor.measured(4, {"loss": 0.5})
    supervisor.checkpointed(4, "path")
    assert supervisor.should_checkpoint() == "should_checkpoint"
    said = [("resumed", 3), ("progress", 4, 0.5), ("measured", 4, {"loss": 0.5}), ("checkpointed", 4, "path")]
    assert calls == [*said, ("should_checkpoint",)] and steps == [4]
    public = {name for name in vars(Supervisor) if not name.startswith("_")}
    assert public == {name for name in vars(ListeningSupervisor) if not name.startswith("_")}, (
        "a method is not passed on"
    )
