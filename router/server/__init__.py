"""Everything that knows gunicorn's internals."""
