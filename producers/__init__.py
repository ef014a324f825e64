"""Producers of events and items."""
