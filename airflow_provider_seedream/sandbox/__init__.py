"""An APIXO on your machine for tests and people, written from the vendor's page and never from the client."""
