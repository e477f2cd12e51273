"""Buys for one Airflow task, and remembers it; the worker enters, others read ``terms`` and ``journal``."""
