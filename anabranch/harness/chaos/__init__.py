"""Kill processes and brokers at random, then verify the topics."""
