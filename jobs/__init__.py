"""The command line; runs on Ray Data; and what is made of their results."""
