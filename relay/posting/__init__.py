"""Mail from the command line of this machine: what was asked for, the message put in order, and the way to a server."""
