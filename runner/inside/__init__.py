"""The programs that run inside the three containers: standard library only, Python 3.11."""
