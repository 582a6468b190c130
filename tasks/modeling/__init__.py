"""Models as files: architectures, calibration, and the devices they run on."""
