"""The ranker: events in, rankings and feedback out, one transaction per batch."""
