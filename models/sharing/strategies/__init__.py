"""Sharing strategies, one file each."""
