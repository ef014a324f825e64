"""Training data: the event log and its store, and the sequences and sessions cut from it."""
