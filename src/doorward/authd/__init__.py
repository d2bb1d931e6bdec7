"""`doorward authd`: a real auth service. Users, sign-in, refresh with rotation, revocation, key set, validation.

A plain ASGI application (`doorward.authd.app.create_app`); the operator's commands are in `doorward.authd.admin`.
"""
