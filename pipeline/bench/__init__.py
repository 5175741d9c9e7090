"""Benchmarks of the training engine beside its peers; run by `jobs.bench`."""
