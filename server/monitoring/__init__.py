"""What Prometheus reads: figures by model, and who counts them."""
