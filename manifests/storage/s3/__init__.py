"""S3 for images and tables, with one client, one set of settings and one retry policy.

All requests go through boto3. pyarrow's own S3 client supports neither a profile's endpoint nor SSO
nor requester pays, stores no checksums and retries by other rules, so tables would be read with
other settings than images. Instead, pyarrow reads and writes Parquet through the files of
:mod:`manifests.storage.s3.objects`.

::

    settings     settings for which boto3 has no variable
    client       the client, rebuilt when the environment or the credentials change
    retries      which failures are retried, and which error a final failure raises
    objects      lists, reads, writes and verifies objects
"""
