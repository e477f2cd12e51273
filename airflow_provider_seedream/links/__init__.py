"""The buttons on a task; operators name them, workers and the api-server follow them."""
