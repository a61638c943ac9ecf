"""The face for people: command line, client, service kit, and the stack that runs on one machine."""
