"""What the thread that has the user states answers: rankings for users, items like others, what is known of a user."""
