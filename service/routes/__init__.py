"""The service's own HTTP routes, a module for each subject."""
