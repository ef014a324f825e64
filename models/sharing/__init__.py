"""Sharing: training one shared encoder on the log and on what seed models, texts, domains and a parent know."""
