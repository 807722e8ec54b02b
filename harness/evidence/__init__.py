"""Evidence of drills: what is recorded (`record`), chained, signed and verified."""
