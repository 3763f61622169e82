"""Where results lie and whether they are true."""
