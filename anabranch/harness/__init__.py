"""What plays and measures the product: demo, chaos, benchmarks, results. No server process imports it."""
