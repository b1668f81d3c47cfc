"""What goes in and what is recorded: manifests, shards, and the lineage ledger."""
