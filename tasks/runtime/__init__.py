"""What every step needs: its parameters, its command line, its files."""
