"""What people start: the command line, and the one file in which the DAG is built."""
