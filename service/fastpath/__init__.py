"""Plain requests to /predict, answered past ASGI. Without this package all are still answered."""
