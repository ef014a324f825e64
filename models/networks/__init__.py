"""The PyTorch networks, their losses, and their export to ONNX."""
