"""The channel between the server and the agents of the hosts; it imports the model alone."""
