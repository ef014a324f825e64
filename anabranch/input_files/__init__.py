"""Events and items read from parquet, CSV or JSONL files; errors name the row, the field and the remedy."""
