"""Hyperparameter tuning: the grid of a sweep, and the settings that did best."""
