"""Where APIXO calls the api-server; only ``plugins`` enters it, and it never meets the gallery."""
