"""The trials of a curation by their older name: `--trial NAME` is `python -m jobs.bench NAME`."""

import sys

from jobs import bench

if __name__ == "__main__":
    argv = sys.argv[1:]
    if "--trial" in argv:
        place = argv.index("--trial")
        argv = [*argv[place + 1 : place + 2], *argv[:place], *argv[place + 2 :]]
    bench.cli(argv)
