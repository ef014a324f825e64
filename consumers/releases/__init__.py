"""How a release reaches a ranker: watched, loaded, updated, and its index maintained."""
