"""`doorward chat`: the chat in a terminal, on the Python client."""
