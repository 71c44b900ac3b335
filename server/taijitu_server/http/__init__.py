"""HTTP: connections, bodies, forms, API keys, host names and origins."""
