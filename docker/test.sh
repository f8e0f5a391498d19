#!/bin/sh
# The later interface: docker run --entrypoint ./test.sh IMAGE data/LungCT_dataset.json
exec python /opt/l2reg/docker/run.py current "$@"
