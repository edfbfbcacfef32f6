"""What is drawn at random for benchmarks: a base, its tokenizer, adapters, dialogues."""
