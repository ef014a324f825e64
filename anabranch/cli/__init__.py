"""The command line: one thin file per command. It is the composition root, and may import everything, lazily."""
