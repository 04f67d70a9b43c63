"""One command that measures everything on a machine with a GPU; on a CPU it runs the same lines in about a minute."""
