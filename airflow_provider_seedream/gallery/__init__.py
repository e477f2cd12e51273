"""The gallery in Airflow's web interface, an Airflow plugin."""
