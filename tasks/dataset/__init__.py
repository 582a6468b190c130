"""What a data set looks like: the images' geometry, the classes, the splits."""
