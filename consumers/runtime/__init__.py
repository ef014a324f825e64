"""What every consumer process shares: the group consumer, publishers, decoding, dead letters, threads."""
