"""Photographs and scans, turned into images like those of the data set."""
