"""What a process needs from its surroundings: settings, logs and the embedded servers."""
