"""`relay dkim`: keys that sign mail, and what DNS has of them. docs/dkim.md."""
