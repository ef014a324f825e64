"""The serving core driven over an event log: rankings, training lists and purchase examples."""
