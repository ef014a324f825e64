"""Where a run takes place: brokers, processes, topics and releases."""
