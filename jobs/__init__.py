"""The command line, and the one file in which the DAG is built."""
