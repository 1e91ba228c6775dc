"""Code and data that several test modules share. A test module never imports from another test module."""
