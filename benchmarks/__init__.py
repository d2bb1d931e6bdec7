"""Benchmarks that a stranger can run: `make bench`. See docs/reference/benchmarks.md."""
