"""Bodies of the service's own API, a file for each subject."""
