"""Files in and out, written atomically: volumes, point files, output folders."""
