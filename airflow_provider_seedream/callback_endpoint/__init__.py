"""The endpoint that APIXO calls in the api-server; only ``plugins`` enters it, never ``gallery``."""
