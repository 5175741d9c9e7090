from pipeline.bench.host import ListeningHost
from pipeline.train.loop import Host


def test_whatever_the_loop_says_reaches_the_host_of_the_run():
    calls = []

    class Recording(Host):
        def __getattribute__(self, name):
            return lambda *args: calls.append((name, *args)) or name

    steps = []
    host = ListeningHost(Recording(), steps.append)
    host.resumed(3)
    host.progress(4, 0.5)
    host.measured(4, {"loss": 0.5})
    host.checkpointed(4, "path")
    assert host.should_checkpoint() == "should_checkpoint"
    said = [("resumed", 3), ("progress", 4, 0.5), ("measured", 4, {"loss": 0.5}), ("checkpointed", 4, "path")]
    assert calls == [*said, ("should_checkpoint",)] and steps == [4]
    public = {name for name in vars(Host) if not name.startswith("_")}
    assert public == {name for name in vars(ListeningHost) if not name.startswith("_")}, "a method is not passed on"
