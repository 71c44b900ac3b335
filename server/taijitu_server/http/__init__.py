"""HTTP: connections, middleware, bodies, forms, who may ask, and the routes."""
