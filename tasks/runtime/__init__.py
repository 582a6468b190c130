"""The parameters, command line and files of every step."""
