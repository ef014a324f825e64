"""User states in this process, and their changelog: what a ranker writes and a replica reads."""
