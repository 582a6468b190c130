"""Models as files: architectures, calibration, devices."""
