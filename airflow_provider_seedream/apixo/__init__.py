"""The APIXO API itself: knows nothing of Airflow, and only ``client`` does I/O."""
