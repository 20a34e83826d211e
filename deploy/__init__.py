"""What an installation is made of, beside the program."""
