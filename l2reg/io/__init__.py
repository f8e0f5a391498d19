"""Files in and out, whole or not at all: volumes, point files, output folders."""
