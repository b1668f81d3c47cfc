"""Between a file's bytes and its pixels."""
