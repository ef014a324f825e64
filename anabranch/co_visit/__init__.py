"""Item-to-item co-visits: counted event by event, and the table that the `neighbours` topic carries."""
