"""Run any DVC pipeline as a Prefect flow."""
