"""The face for people: the command line, the Python client, the kit for owners of skills, and the stack for one machine."""
