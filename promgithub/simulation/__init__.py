"""A load generator that is also a proof: it plays a history of CI, knows the truth about it, and compares."""
