"""Kafka clients made from `Settings`, the topics, and every work-round of kafka-python 3.0.12.

Work-rounds name their upstream issue or pull request, or say that none is known:

- `clients`: frame size limit, password in the log
- `connections`: refused authentication, data that arrives together with the end of a connection
- `group_membership`: metadata before the join, lost partitions, pausing
- `decompression`: batches that decompress to any size
- `headers`: header names that are not UTF-8
- `record_batches`: batches that cannot be read, control batches without a marker
- `transactional_producer`: sleeping sender thread, refused offsets after an abort, errors that hide their cause
"""
