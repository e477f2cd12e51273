"""From an Airflow connection to the API; workers, triggers and plain Python tasks enter it."""
