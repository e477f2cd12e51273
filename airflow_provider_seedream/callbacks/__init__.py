"""Delivery by callback: what the workers, which make an address, share with the api-server, which answers."""
