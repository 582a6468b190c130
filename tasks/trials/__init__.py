"""The result of one training with another seed or other settings."""
