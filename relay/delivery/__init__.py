"""Mail out: takes due mail from the queue, opens sessions with receiving hosts and sends over them."""
