"""What mail is made of: addresses, messages, statuses, outcomes. Pure values."""
