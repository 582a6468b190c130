"""The champion: its history, the gate and the model card."""
