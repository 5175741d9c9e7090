"""Two folders are the same if their files are, but for those that name a reason."""

from pathlib import Path

from pipeline.chaos.folder import Contents, contents


def written(folder: Path, **files: str) -> Contents:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return contents(folder)


def test_what_differs_is_named_and_what_holds_times_is_left_out(tmp_path: Path) -> None:
    assert contents(tmp_path / "nothing") == Contents(files={}, runs={})
    first = written(tmp_path / "a", config="1", model__weights="2", dvae__lease__1="3", metrics="4")
    second = written(tmp_path / "b", config="1", model__weights="9", gpt__lease__2="3", metrics="4", extra="5")
    assert first.files.keys() == {"config", "model/weights", "metrics"}
    assert first.differences(first) == [] and first.differences(second) == ["extra", "model/weights"]
