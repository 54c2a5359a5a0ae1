"""Attacks on what is promised in docs/robustness.md, as scripts that print counts."""
