"""Splits a manifest into shards: checks rows, normalizes marks, finds duplicate ids."""
