"""The schedule: the Prefect server, the worker, deployments and notifications."""
