"""The report: its results, its figures and its page."""
