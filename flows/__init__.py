"""The pipeline as a Prefect flow: orchestration only, no arithmetic."""
