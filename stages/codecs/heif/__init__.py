"""AVIF and HEIC."""
