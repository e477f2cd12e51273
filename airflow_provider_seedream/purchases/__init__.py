"""Buys for one Airflow task, and remembers it across tries; ``worker`` enters by ``purchases``."""
