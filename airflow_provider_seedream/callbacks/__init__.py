"""Delivery by callback: the address that a worker makes, the note of a delivery, what tasks make of it."""
