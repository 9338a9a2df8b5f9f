"""One attempt at a token: a command or a function, its directory, its processes, and what it leaves behind."""
