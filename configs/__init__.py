"""One runnable experiment a file; each file's docstring holds its command."""
