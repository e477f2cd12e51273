"""Apache Airflow provider for Seedream 4.5 image generation on the APIXO API."""

__version__ = "0.1.0"
