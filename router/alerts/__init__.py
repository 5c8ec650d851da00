"""From a notification of Alertmanager to a hold, and back to a healthy node."""
