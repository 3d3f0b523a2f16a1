"""The schema's history. Forward only: going back means restoring the backup."""
