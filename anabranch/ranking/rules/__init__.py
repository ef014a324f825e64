"""Merchandisers' rules, as what they do to the items of each placement."""
