"""Why an item stands where it stands."""
