"""Stochastic gradient descent: networks, losses, optimizers and the loop."""
