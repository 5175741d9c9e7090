import pytest

from pipeline.train.cluster import ClusterConfig


def test_bad_values_are_named():
    for name in ("num_workers", "cpus_per_worker"):
        with pytest.raises(ValueError, match=f"cluster.{name} is 0"):
            ClusterConfig(**{name: 0})
    with pytest.raises(ValueError, match="cluster.max_failures is -1"):
        ClusterConfig(max_failures=-1)


def test_cpus_of_all_workers():
    assert ClusterConfig(num_workers=3, cpus_per_worker=4).cpus == 12
