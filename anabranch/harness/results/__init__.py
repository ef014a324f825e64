"""The measurements and the page of models/RESULTS.md."""
