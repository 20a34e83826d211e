"""What was missed is recovered through GitHub's API: failed deliveries, and the state of runs and jobs.

Why like this: docs/decisions/0013.
"""
