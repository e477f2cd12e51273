"""Tools of this repository: a local Airflow, and the demo that runs on it."""
