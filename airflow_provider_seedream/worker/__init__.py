"""What a running task does, entered by one call of an operator or sensor; never at DAG parse."""
