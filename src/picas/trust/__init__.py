"""Who may have written a token, and what nobody is to see."""
