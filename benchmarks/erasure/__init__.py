"""What a key for each person costs every request, and how long the erasure of a large customer takes."""
