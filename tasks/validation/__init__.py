"""Schemas for the raw data, and the summary tables that they check."""
