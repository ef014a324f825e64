"""Seeds: models that teach."""
