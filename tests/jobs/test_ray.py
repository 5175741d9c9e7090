"""Where a job's own Ray keeps its files."""

import os
import stat

import pytest

from jobs import _ray


def test_rays_files_are_in_a_folder_of_the_user_alone(tmp_path_factory, monkeypatch):
    place = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(_ray, "_temporary", lambda: str(place))
    monkeypatch.setattr(_ray, "_LONGEST_FOLDER", 4096)
    sessions = _ray._own_folder()
    folder = os.path.dirname(sessions)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700 and os.path.dirname(folder) == str(place)
    os.chmod(folder, 0o777)
    assert _ray._own_folder() == sessions and stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def test_what_another_put_in_its_place_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_ray, "_temporary", lambda: str(tmp_path))
    monkeypatch.setattr(_ray, "_LONGEST_FOLDER", 4096)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"ray-{os.getuid()}").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="is not a folder of yours; set RAY_TMPDIR"):
        _ray._own_folder()


def test_a_path_that_sockets_cannot_have_is_refused(monkeypatch):
    monkeypatch.setattr(_ray, "_temporary", lambda: "/tmp/" + "a" * 60)
    with pytest.raises(ValueError, match="set RAY_TMPDIR to a shorter one"):
        _ray._own_folder()
