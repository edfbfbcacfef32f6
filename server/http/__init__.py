"""What is HTTP whatever is asked: connections, the layer around every request, streams."""
