"""Photos, catalogs and files of every format, and what is looked up in them."""
