"""Polls in the triggerer, and nothing else; the worker defers to it, and Airflow's triggerer runs it."""
