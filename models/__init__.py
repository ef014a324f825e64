"""Training: data, networks, seed models, the shared encoder that learns from them, and the release gate."""
