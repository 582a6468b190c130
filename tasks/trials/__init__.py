"""The result of one training with a given seed or given settings."""
