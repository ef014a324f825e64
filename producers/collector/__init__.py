"""Events over HTTP to the topic `events`."""
