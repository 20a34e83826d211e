"""The worker: consume in micro-batches, drop duplicates, track state, count, expose."""
