"""The raw data: IDX files and the card that describes them."""
