"""Records as a file: what is stored, how it is checked, how it is written."""
