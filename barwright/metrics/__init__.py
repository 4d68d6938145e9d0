"""What every role tells of itself: metrics for Prometheus, and whether it lives and can work. Each package counts where
things happen, in a module `metrics` of its own; this one gives them a listener, and knows what all roles share."""
