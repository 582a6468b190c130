"""The results of a run: its name, its artifacts, the champion, the remote."""
