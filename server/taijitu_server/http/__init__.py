"""HTTP: connections, middleware, bodies, forms, API keys, host names, origins and routes."""
