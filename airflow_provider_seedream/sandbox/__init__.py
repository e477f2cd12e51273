"""Stands in for APIXO on your machine: real HTTP, real images, real money accounting, no account anywhere.

Written from the vendor's page, never from the client, so that each can catch the other's mistakes.
"""
