"""What speed and memory cost: run as `python -m tests.benchmarks.engine`, not by pytest."""
