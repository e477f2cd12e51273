"""What Airflow mounts; every Airflow process enters it, so applications are imported with a request."""
