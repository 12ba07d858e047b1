"""Benchmarks of semscale against bare means on the same machine; see ``python -m tests.benchmarks --help``."""
