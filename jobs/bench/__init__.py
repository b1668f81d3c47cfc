"""Benchmarks: what things cost, each ratio from one run on one machine."""
