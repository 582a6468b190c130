"""Dataset cards for new data, inferred from its files."""
