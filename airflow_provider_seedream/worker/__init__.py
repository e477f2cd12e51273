"""Runs an Airflow task, entered by one call of an operator or sensor; never at DAG parse."""
