"""Looking at a network without changing it: eval mode, counting, tracing, checks of what goes in and comes out."""
