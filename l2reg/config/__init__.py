"""From plain dicts to objects: presets on disk, the keys of the scripts, the tasks of a run."""
