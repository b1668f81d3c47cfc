"""Estimates nodes, time and cost of a catalog: rows x seconds / actors.

::

    lineage of a pilot run ─┐
    defaults.toml ──────────┴▶ seconds.py: s per photo, step by step, grouped as a run groups them
    --pools, deploy files ───▶ fleet.py: nodes, actors, start-up, ramp, time, cost
                               report.py: the estimate, and its text
"""
