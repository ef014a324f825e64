"""The indexer: items in, item vectors out."""
