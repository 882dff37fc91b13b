"""`relay tlsrpt`: what domains would be told today, and telling them now. docs/tls-reports.md."""
