"""The receiver: verify, validate, publish, answer."""
