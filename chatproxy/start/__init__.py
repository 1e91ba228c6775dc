"""What `manage.py serve` does before it becomes gunicorn.

`startup`: waits for the port and the database, migrates. `first_start`: generates the secrets and the first admin.
`secret_canary`: proves that the secrets are those with which the database was made.
"""
