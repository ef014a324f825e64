"""The endpoints: requests read, checked and counted, and answers written."""
