import sys

import pytest

from pipeline.bench import command


def test_a_command_runs_in_its_folder_and_tells_how_it_failed():
    code = f'{sys.executable} -c \'import os, sys; sys.exit(os.environ["WHERE"] + " and {{run_dir}}")\''
    done = command.run(code, "/x y", {"WHERE": "here"})
    assert (done.returncode, command.last_line(done.stderr)) == (1, "here and /x y") and command.last_line("") == ""
    with pytest.raises(ValueError, match="fails with status 1: here and /x y"):
        command.must_run(code, "/x y", {"WHERE": "here"})
