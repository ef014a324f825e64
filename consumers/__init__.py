"""The consumers: the streaming edge around the pure core."""
