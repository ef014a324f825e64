"""The indexer: reads items, and publishes their vectors."""
