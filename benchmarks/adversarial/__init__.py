"""Adversarial chains, their right answers by other means, and what is asked of them: the parts of ``campaign.py``."""
