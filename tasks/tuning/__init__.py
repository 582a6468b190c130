"""Hyperparameter tuning: the grid of a sweep, and the best settings."""
