"""Item-to-item co-visits: the counting model, the table that the `neighbours` topic carries, and its text prior."""
