"""Item-to-item co-visits: the model that learns a log, its text prior, and what changes from table to table."""
