"""Products on a GPU: which kernel takes them, and what is kept there."""
