"""Metrics of the trained models, and the file that holds them."""
