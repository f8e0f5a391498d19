"""Methods, and what they write: fields, submissions, the container."""
