"""The training pipeline from an event log to a release candidate, and the gate that decides on the candidate."""
