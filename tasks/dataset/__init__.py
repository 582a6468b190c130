"""The dataset: geometry of the images, names of the classes, the three splits."""
