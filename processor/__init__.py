"""The processor: consume deliveries in batches, drop duplicates, track states, count, expose metrics."""
