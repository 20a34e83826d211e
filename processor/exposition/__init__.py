"""Turns a snapshot of the store into metric families and text."""
