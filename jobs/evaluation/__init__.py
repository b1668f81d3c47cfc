"""Compares recipes on photos with known correct results."""
