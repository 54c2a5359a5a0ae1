"""Eigenvalues of chains: all of them class by class with proved discs, or the slow ones with their subspaces."""
