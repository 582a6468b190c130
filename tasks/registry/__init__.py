"""The champion: its history, the gate it passed, its model card."""
