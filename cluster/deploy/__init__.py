"""Files that set up a cluster, and the code that makes them."""
