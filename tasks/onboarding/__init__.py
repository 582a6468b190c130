"""A card for a new data set, inferred from its files."""
