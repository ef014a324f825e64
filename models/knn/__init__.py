"""Nearest neighbours of a session or a user, learned event by event."""
