import math

import pytest

from pipeline.train.launch.config import ClusterConfig


def test_bad_values_are_named():
    for name in ("num_workers", "cpus_per_worker"):
        with pytest.raises(ValueError, match=f"^{name} is 0; use "):
            ClusterConfig(**{name: 0})
    with pytest.raises(ValueError, match="^max_failures is -1; use 0 or more"):
        ClusterConfig(max_failures=-1)
    with pytest.raises(ValueError, match="max_workers is 2, and num_workers, the fewest, is 3; use 3 or more"):
        ClusterConfig(num_workers=3, max_workers=2)
    for name in ("resize_every_s", "timeout_s"):
        with pytest.raises(ValueError, match=f"^{name} is 0; use "):
            ClusterConfig(**{name: 0})
        for value, use in ((math.nan, "more than 0"), (math.inf, "a finite number, more than 0")):
            with pytest.raises(ValueError, match=f"^{name} is {value}; use {use}$"):
                ClusterConfig(**{name: value})
    for value in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"^stall_timeout_s is {value}; use (a finite number, )?0 or more$"):
            ClusterConfig(stall_timeout_s=value)


def test_cpus_of_all_workers():
    assert ClusterConfig(num_workers=3, cpus_per_worker=4).cpus == 12
