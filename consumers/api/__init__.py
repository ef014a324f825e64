"""The serving API: rankings and what is known, over HTTP, from a replica of the rankers' states."""
