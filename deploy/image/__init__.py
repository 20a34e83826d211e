"""What the image has beside the program."""
