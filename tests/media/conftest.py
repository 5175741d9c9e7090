"""Sound in every container."""

import pytest

from tests.media import sounds


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    return sounds.files()
