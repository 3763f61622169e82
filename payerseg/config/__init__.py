"""What may be chosen, and what training fixed; standard library only."""
