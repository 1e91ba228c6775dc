"""What tests share. No test imports from another test module; what two of them need is here."""
