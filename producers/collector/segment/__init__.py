"""Events in the form of Segment's HTTP tracking API."""
