"""The pages with the images in Airflow's web interface; ``plugins`` enters, and DAGs enter ``markdown``."""
