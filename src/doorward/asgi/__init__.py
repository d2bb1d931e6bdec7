"""The door as ASGI: the middleware, the life of an admitted connection, and the default server's protocol."""
