"""Where the raw data comes from: mirrors, archives, and other formats."""
