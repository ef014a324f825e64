"""The learning side: seeds that teach, the encoder that learns from them, and the gate."""
