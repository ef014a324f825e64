"""The release gate: what a candidate is compared with, the tests, and the decision."""
