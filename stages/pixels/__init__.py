"""Geometry and arithmetic on pixels: no files, no recipe."""
