"""TLS reports: what is counted in a day, and how domains are told of it. RFC 8460."""
