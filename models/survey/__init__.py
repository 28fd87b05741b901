"""Survey models beside the stream: one small file a row, under ``<family>/rows/``."""
