"""The neighbours job: events in, rows of the co-visit table out."""
