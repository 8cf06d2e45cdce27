"""Networks as one HTML file with a pad, which reads the digits that are drawn there."""
