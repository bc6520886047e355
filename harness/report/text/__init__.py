"""What is written: numbers, tables for programs and papers, commands, and published figures."""
