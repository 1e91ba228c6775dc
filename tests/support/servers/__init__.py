"""Real servers for tests: the gateway, databases, Redis, PgBouncer, full disks, a certificate authority."""
