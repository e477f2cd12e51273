"""The values that workers and the api-server share about callbacks: token, address, delivery."""
