"""S3, for pictures and tables alike: one client, one set of settings, one way to retry.

All goes through boto3. pyarrow has an S3 client of its own, but that one knows neither the endpoint
of a profile nor SSO, sends no checksum that is kept, retries by other rules, and cannot be asked
for requester pays; tables would be read by other settings than pictures. So pyarrow reads and
writes Parquet, and :mod:`manifests.storage.s3.filesystem` lends it our objects as a file system.

::

    settings     what boto3 has no variable for
    client       the client, made again when the environment or the credentials change
    retries      which failures are retried, and whose fault it is when no retry helps
    objects      whole objects and parts of them, listed, read, written, verified
    filesystem   the same as pyarrow wants it
    storage      the same as :class:`manifests.storage.base.Storage`
"""
