"""Interprets deliveries and decides what to count. Pure: no I/O."""
