"""Database migrations, run by `doorward.authd.migrate` at start."""
