"""Benchmarks: one line of JSON each, with a baseline that is measured in the same run. `make bench`."""
