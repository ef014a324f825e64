"""Peers: the same work with other libraries, on the same machine, broker and events."""
