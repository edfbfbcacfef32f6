"""Who may use the server: the scope of a route, keys, cookies, and where a request comes from."""
