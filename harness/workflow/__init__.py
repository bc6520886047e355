"""What a command does from its request to its page, as events that the command line prints and Python returns."""
