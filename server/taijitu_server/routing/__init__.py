"""Find the endpoint of a request, and describe all endpoints."""
