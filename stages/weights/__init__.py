"""Weights: where they come from, how they are verified, and under what licence."""
