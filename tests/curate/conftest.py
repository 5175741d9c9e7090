"""A finished toy run, and copies of it that a test may change."""

import shutil
from pathlib import Path

import pytest

from pipeline.storage import Store
from tests.curate.toy import curation


@pytest.fixture(scope="session")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("finished") / "run"))
    curation(f"{store.url}-back").run(store)
    return store


@pytest.fixture
def store(finished: Store, tmp_path: Path) -> Store:
    shutil.copytree(finished.url, tmp_path / "run")
    return Store(str(tmp_path / "run"))
