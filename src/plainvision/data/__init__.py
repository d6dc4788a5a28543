"""Images in, tensors out: settings, readers of every source, rows and batches."""
