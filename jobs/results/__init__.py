"""What an output folder holds: status of runs, failed rows, and checks of results."""
