"""Delivery by callback: what the workers, which make an address, and the api-server, which answers it, share."""
