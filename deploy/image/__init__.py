"""Additional files of the container image."""
