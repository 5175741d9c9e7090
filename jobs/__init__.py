"""The commands: one file = one command, a config dataclass and its wiring."""

import os
import sys

from pipeline import signals


def _is_command() -> bool:
    """True in `python -m jobs.NAME` and `triptych NAME`; tests and Ray's workers, which also import jobs, keep their
    handlers."""
    given = [*sys.orig_argv, ""]
    module = given[given.index("-m") + 1] if "-m" in given else ""
    return os.path.basename(sys.argv[0]) == "triptych" or (sys.argv[0] == "-m" and module.startswith("jobs."))


if _is_command():  # on import, and here: the imports of a job take seconds, in which it can be told to end
    signals.install()
