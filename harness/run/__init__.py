"""A run: which backups to judge (`plan`), their drills (`session`), and what is written (`outputs`)."""
