"""The periodic job: feedback in, a candidate out, the gate's word announced. The one part of `models` with Kafka."""
