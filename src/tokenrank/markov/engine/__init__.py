"""Solvers that several questions share: Krylov spaces, refinement, substitution, elimination, batching."""
