"""Inference: the ONNX models of a release."""
