"""Kafka at the edge: clients made from `Settings`, topics, and every work-round of kafka-python."""
