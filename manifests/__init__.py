"""Input and records of a run: manifests, shards, storage and the lineage ledger."""
