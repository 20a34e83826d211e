"""What the receiver and the worker must agree on."""
