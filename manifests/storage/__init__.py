"""Where files lie: local folders and S3."""
