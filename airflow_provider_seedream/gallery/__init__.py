"""The pages with the images in Airflow's web interface; only ``plugins`` enters it, in the api-server."""
