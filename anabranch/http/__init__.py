"""What HTTP interfaces share: API keys, limits, problem details, the server, and how operations are described."""
