"""A load generator that also checks the metrics: it simulates CI, and knows the expected value of every metric."""
