"""Read image files to pixels, and write edited pixels back into image files."""
