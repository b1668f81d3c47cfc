"""JPEG: decoding, and writing that keeps coefficients."""
