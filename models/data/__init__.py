"""Training data: the event log, its store, and the windows and sessions cut from it."""
