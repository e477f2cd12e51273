"""From an Airflow connection to the API; operators, workers, triggers and plain Python tasks enter it."""
