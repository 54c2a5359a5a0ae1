"""Metrics, each as its protocol defines it."""
