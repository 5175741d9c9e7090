"""What binds a run is derived from its stages: what they use changes the fingerprint, by name, and nothing else
does."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.config import difference
from pipeline.curate import code, waves
from pipeline.curate.decide import Rules
from pipeline.curate.export import ExportConfig
from pipeline.curate.image.decode import DecodeImage
from pipeline.curate.journal import Journal
from pipeline.curate.run import Curation
from pipeline.curate.stage import Map, Row
from pipeline.records import IMAGE, INPUT, key_of
from pipeline.storage import Store
from tests.commands import command
from tests.curate import toy

ROOT = Path(__file__).parents[2]
PRINT = """
import json, sys
from pipeline.config import to_json
from jobs import curate_images
config = curate_images.CurateImages(run_dir="x", sources=("list=https://example.org/l.csv",))
curation = curate_images.curation(config)
from pipeline.curate import decide
plan = to_json(curation.fingerprint(""))
print(json.dumps({"plan": plan, "rules": [decide.describe(rule) for rule in curation.rules]}))
"""


@dataclass(frozen=True, kw_only=True)
class Score(Map):
    offset: float = 0.0

    def map(self, row: Row) -> Row:
        return row | {"entropy_bits": row["order"] + self.offset}


@dataclass(frozen=True, kw_only=True)
class Model(Map):
    sha256: str

    def map(self, row: Row) -> Row:
        return row

    def depends_on(self) -> dict[str, str]:
        return {"weights_sha256": self.sha256}


def listing(source: str) -> list[Row]:
    blank = dict.fromkeys(INPUT.names) | {"source": "s"}
    return [blank | {"key": key_of(str(i)), "url": f"https://e.org/{i}", "text": str(i)} for i in range(8)]


def curation(*stages: Map) -> Curation:
    return Curation(
        name="toy",
        sources=("s",),
        discover=toy.Listed(read=listing),
        schema=IMAGE,
        unit="image",
        renamed={"caption": "text"},
        stages=stages,
        rules=(Rules(unit="image"),),
        export_unit="image",
        export_columns=("key", "entropy_bits"),
        waves=waves.WaveConfig(wave_rows=4, split_rows=4),
        export=ExportConfig(),
    )


def test_a_run_is_not_gone_on_with_under_another_scoring(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, real = Store(str(tmp_path)), waves._run_wave
    begun = []

    def one_wave(*args: object) -> None:
        if begun:
            raise KeyboardInterrupt
        begun.append(1)
        real(*args)

    monkeypatch.setattr(waves, "_run_wave", one_wave)
    with pytest.raises(KeyboardInterrupt):
        curation(Score()).run(store)
    monkeypatch.setattr(waves, "_run_wave", real)
    assert waves.committed(Journal(store)) == {0}
    with pytest.raises(ValueError, match=r"stages\.0 Score\.offset: 0\.0 -> 7\.0"):
        curation(Score(offset=7.0)).run(store)
    with pytest.raises(ValueError, match=r"stages\.0 Model"):
        curation(Model(sha256="a"), Score()).run(store)
    assert curation(Score()).run(store).steps["image"].kept == 8


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: replace(c, stages=(*c.stages, Score(offset=1.0))), "stages.2 Score"),
        (lambda c: replace(c, stages=c.stages[:1]), "stages.1 Model"),
        (lambda c: replace(c, stages=c.stages[::-1]), "stages.0 Score"),
        (lambda c: replace(c, stages=(c.stages[0], Model(sha256="b"))), "stages.1 Model.weights_sha256: 'a' -> 'b'"),
        (lambda c: replace(c, schema=IMAGE.remove(IMAGE.get_field_index("pixel_sha256"))), "schema.pixel_sha256"),
        (lambda c: replace(c, renamed={}), "renamed.caption"),
        (lambda c: replace(c, unit="episode"), "unit"),
        (lambda c: replace(c, sources=("other",)), "sources"),
        (lambda c: replace(c, waves=waves.WaveConfig(wave_rows=5)), "waves.wave_rows"),
    ],
)
def test_every_part_of_a_curation_that_makes_rows_binds_them(change, named: str) -> None:
    before = curation(Score(), Model(sha256="a"))
    assert named in "; ".join(difference(before.fingerprint("x"), change(before).fingerprint("x")))


def test_what_makes_no_row_does_not_bind() -> None:
    before = curation(Score())
    after = replace(
        before,
        resources={"Score": {"cpus": 4, "workers": (2, 2)}},
        rules=(),
        export_columns=("key",),
        export=ExportConfig(shard_rows=5),
    )
    assert before.fingerprint("x") == after.fingerprint("x")
    with pytest.raises(ValueError, match="no stage 'Decode' .* name one of Score"):
        replace(before, resources={"Decode": {}})


def test_the_modules_are_those_that_stages_use() -> None:
    used = code.modules([DecodeImage()])
    own = {"pipeline.curate.image.decode", "pipeline.media.image", "pipeline.media.error"}
    assert own | {"pipeline.records", "pipeline.curate.stage"} <= used.keys()
    assert not {"pipeline.media.audio", "pipeline.media.mel"} & used.keys()
    assert (
        not {"pipeline.curate.guard", "pipeline.curate.waves", "pipeline.curate.explain", "pipeline.storage"}
        & used.keys()
    )
    assert {"python", "pillow", "numpy"} <= code.libraries([DecodeImage()]).keys()
    assert "tests.curate.test_code" in code.modules([Score()]), "a stage may be anybody's"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for name in ("pipeline", "jobs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "printing.py").write_text(PRINT)
    (folder / "before.json").write_text(json.dumps(fingerprint(folder)))
    return folder


def fingerprint(folder: Path) -> dict:
    done = command("printing", cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


STATEMENT = "\n_NEW = 1\n"
COMMENT = "\n# a comment at the end\n"


@pytest.mark.parametrize(
    ("path", "change", "named"),
    [
        (
            "records.py",
            lambda text: text.replace('"\\x1f".join', '"\\x1e".join'),
            {"plan.code.pipeline.records", "rules"},
        ),
        ("curate/stage.py", lambda text: text + STATEMENT, {"plan.code.pipeline.curate.stage", "rules"}),
        ("curate/image/decode.py", lambda text: text + STATEMENT, {"plan.code.pipeline.curate.image.decode"}),
        ("media/image.py", lambda text: text + STATEMENT, {"plan.code.pipeline.media.image"}),
        ("media/audio.py", lambda text: text + STATEMENT, set()),
        ("curate/fetch/http.py", lambda text: text + STATEMENT, {"plan.code.pipeline.curate.fetch.http"}),
        ("curate/image/filters.py", lambda text: text + STATEMENT, {"rules"}),
        ("curate/explain.py", lambda text: text + STATEMENT, set()),
        ("curate/diff.py", lambda text: text + STATEMENT, set()),
        ("chaos/verify.py", lambda text: text + STATEMENT, set()),
        ("curate/waves.py", lambda text: text + STATEMENT, set()),
        ("curate/text/forensics.py", lambda text: text + STATEMENT, set()),
        ("curate/image/decode.py", lambda text: text + COMMENT, set()),
        ("curate/image/decode.py", lambda text: text.replace('"""', '"""Said otherwise: ', 1), set()),
    ],
)
def test_an_edit_binds_what_uses_it_and_nothing_else(
    tree: Path, path: str, change: Callable[[str], str], named: set[str]
) -> None:
    file = tree / "pipeline" / path
    text = file.read_text()
    assert change(text) != text
    file.write_text(change(text))
    try:
        changes = difference(json.loads((tree / "before.json").read_text()), fingerprint(tree))
    finally:
        file.write_text(text)
    assert {line.partition(":")[0] for line in changes} == named
