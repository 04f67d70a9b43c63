"""Several processes on one port: a supervisor, its workers, and the pipes between them."""
