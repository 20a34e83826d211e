"""Recovery through GitHub's API: failed deliveries, and the states of runs and jobs.

docs/decisions/0013 explains the design.
"""
