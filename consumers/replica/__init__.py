"""User states that follow the log without ranking it, for processes that answer requests: a read replica of rankers."""
