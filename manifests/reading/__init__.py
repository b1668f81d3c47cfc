"""Manifests' files: found, opened and read as Arrow tables."""
