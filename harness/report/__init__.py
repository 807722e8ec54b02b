"""Reports: pages made from evidence.json alone."""
