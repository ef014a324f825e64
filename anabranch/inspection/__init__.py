"""What `anabranch inspect` shows: messages of the topics, a user's state, the size of user states."""
