"""The measurements behind models/RESULTS.md, and the page itself."""
