"""The pipeline: units of rows, their actors, the transport between them, the supervisor."""
