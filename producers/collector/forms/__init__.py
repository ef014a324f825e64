"""The forms in which events are taken: what they share, and the project's own."""
