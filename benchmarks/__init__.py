"""Benchmarks of the verifier. Run with `make bench`."""
