"""Mail in: listens, speaks SMTP with clients, and puts what they send into the queue."""
