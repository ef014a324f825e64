"""The producers: what puts facts on Kafka."""
