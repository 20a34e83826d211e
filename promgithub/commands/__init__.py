"""The subcommands of `promgithub`, one module each."""
