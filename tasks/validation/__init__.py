"""Schemas of the raw data, and the summaries that they check."""
