"""What the operator says about itself: log lines, metrics, health."""
