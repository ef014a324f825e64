"""Events in the form of Google Analytics 4's Measurement Protocol."""
