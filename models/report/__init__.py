"""The report on how a release came to be: one HTML file, beside the releases and not in them."""
