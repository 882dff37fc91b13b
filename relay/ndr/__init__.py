"""What senders are told of their mail: who hears what, and the octets of the notice. Pure."""
