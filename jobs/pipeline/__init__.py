"""The parts of the pipeline: units of rows, their actors, transport between them, the monitor."""
