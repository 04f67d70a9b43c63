"""What can be asked over HTTP: a file for each subject, a folder for each large protocol."""
