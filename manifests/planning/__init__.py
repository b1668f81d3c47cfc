"""From a manifest to shards: rows checked, marks normalised, duplicates found."""
