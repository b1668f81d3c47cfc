"""The steps of the method, a file each, in the order of work."""
