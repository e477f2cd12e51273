"""What one Airflow task buys, and what its next try does with that; ``worker`` enters by ``purchases``."""
