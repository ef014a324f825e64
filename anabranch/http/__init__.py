"""What HTTP interfaces share: API keys, limits, problem details, the server."""
