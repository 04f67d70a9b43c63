"""Plain requests to /predict, answered past ASGI. Without this room all are still answered."""
