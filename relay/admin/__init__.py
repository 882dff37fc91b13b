"""For those who watch over the service: health and metrics over HTTP."""
