"""The promgithub command: one module per subcommand."""
