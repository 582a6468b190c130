"""The steps of the lesson, and the small libraries that they share."""
