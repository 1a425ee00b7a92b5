"""What every process needs: settings, logs, signing, clients and the embedded servers."""
