"""From a log to a release candidate, and the gate that decides on it."""
