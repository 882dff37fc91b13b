"""A small fake internet on loopback: name server, mail hosts, policy hosts and their certificates."""
