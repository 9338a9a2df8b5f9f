"""The pilot: what it claims, starts, watches and brings home, until nothing is left or it has to go."""
