"""The report on a release: one HTML file, stored outside the release's folder."""
