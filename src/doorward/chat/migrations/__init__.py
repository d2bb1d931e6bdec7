"""Alembic migrations of the chat's database."""
