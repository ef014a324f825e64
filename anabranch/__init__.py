"""Anabranch: a real-time recommender that learns from what its users do next."""
