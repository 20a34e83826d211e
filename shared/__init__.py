"""Code that both the receiver and the processor use."""
