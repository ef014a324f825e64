"""PyTorch networks, how they are trained, and their export to ONNX."""
