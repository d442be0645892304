"""How curves, numbers and words are kept and shown."""
