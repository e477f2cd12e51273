"""The plugin; every Airflow process enters it, so applications are imported with their first request."""
