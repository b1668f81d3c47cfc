"""Reads output folders: status of runs, failed rows, and checks of results."""
