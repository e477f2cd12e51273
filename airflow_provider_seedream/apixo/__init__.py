"""The API itself, entered by every room above it; knows nothing of Airflow; only ``client`` does I/O."""
