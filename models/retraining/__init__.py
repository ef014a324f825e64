"""The periodic job: feedback in, a release candidate out, the decision announced. Kafka is known here alone."""
