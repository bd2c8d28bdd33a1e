"""What several test files and benchmarks share."""
