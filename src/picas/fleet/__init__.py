"""All pilots of a pool: who lives, what they are ordered, and what the dead ones held."""
