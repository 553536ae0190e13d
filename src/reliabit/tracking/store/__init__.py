"""The tracking store: opening it, and what can go wrong with it."""
