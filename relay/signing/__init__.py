"""Proof of origin: DKIM signatures over what is sent. RFC 6376, RFC 8463."""
