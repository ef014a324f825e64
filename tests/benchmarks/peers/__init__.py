"""The same work done the way others do it, on the same machine, broker and events: what a ranker is held against."""
