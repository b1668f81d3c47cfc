"""Finds the files of a manifest, and reads them as Arrow tables."""
