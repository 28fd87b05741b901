"""What Tocsin says about an alert, and its encoding."""
