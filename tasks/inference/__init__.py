"""Classify images of one's own: read, predict, write a table and a review page."""
