"""Charts, image grids, and the page that shows them."""
