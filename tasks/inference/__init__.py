"""Classify images of any size: read, predict, write a table and a contact sheet."""
