"""The pure core of the ranker: no Kafka, no clock, no file but a release's own, no thread."""
