"""The responses API: its conversations, its answers, and what it keeps of them."""
